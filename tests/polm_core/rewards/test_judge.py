"""Judges: what they are asked, what their replies mean, and the addresses that they may be asked at."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from polm_core.blocks import TrainConfig
from polm_core.context import ModelSpec
from polm_core.errors import ConfigError, ModelError
from polm_core.outbound import Trusted, connect
from polm_core.rewards.endpoint import Endpoint, EndpointJudge, check_url
from polm_core.rewards.judge import Judge
from polm_core.training.judging import LocalJudge, bring_judge
from tests.support.judge import JudgeServer, answering_to


class Scripted(Judge):
    """Gives each question the next of its replies."""

    def __init__(self, *replies: float | None) -> None:
        super().__init__()
        self.replies = list(replies)
        self.asked: list[str] = []

    def ratings(self, questions: Sequence[str], best: int) -> list[float | None]:
        self.asked += questions
        return [self.replies.pop(0) for _ in questions]


@pytest.fixture
def server(judge_server: JudgeServer) -> JudgeServer:
    return judge_server


def asking(server: JudgeServer, **options: float) -> EndpointJudge:
    return EndpointJudge(server.endpoint, "Short is good.", **{"pause": 0.01, "seconds": 5.0, **options})


def test_a_rating_becomes_a_score_from_0_to_1() -> None:
    judge = Scripted(1, 5, 3.5, None)
    assert judge.scores([("1 + 1?", f"{{{number}}}") for number in range(4)]) == [0.0, 1.0, 0.625, None]
    assert "1 + 1?" in judge.asked[0]
    assert "{3}" in judge.asked[3]
    assert judge.scores([]) == []


@pytest.mark.parametrize(
    ("replies", "preferred"),
    [
        ((1, 2), 0),
        ((2, 1), 1),
        # Whatever stands first, or second, is said to be better.
        ((1, 1), None),
        ((2, 2), None),
        ((None, 2), None),
        ((1.4, 1.2), 1),
    ],
)
def test_a_preference_holds_in_both_orders(replies: tuple[float | None, float], preferred: int | None) -> None:
    judge = Scripted(*replies)
    assert judge.prefer("Hello?", "FIRST", "SECOND") == preferred
    assert [question.index("FIRST") < question.index("SECOND") for question in judge.asked] == [True, False]


@pytest.fixture(scope="module")
def local(tiny_model: Path) -> LocalJudge:
    return LocalJudge(ModelSpec(path=tiny_model), "Short is good.", config=TrainConfig(devices=0), batch_size=2)


def test_a_local_judge_rates_by_the_odds_of_the_next_token(local: LocalJudge, tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    questions = ["Is it 1?", "Is it 2 or something else, and how so?", "3"]
    given = local.ratings(questions, 5)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    digits = [tokenizer.convert_tokens_to_ids(digit) for digit in "12345"]
    for question, rating in zip(questions, given, strict=True):
        turns = [{"role": "user", "content": question}]
        inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            odds = model(**inputs).logits[0, -1, digits].softmax(-1)
        assert rating == pytest.approx(sum(number * float(p) for number, p in enumerate(odds, 1)), abs=1e-4)
    assert len({round(rating or 0, 5) for rating in given}) == 3


def test_what_a_local_judge_cannot_read_is_not_judged(local: LocalJudge) -> None:
    short, long = local.ratings(["Is it 1?", "7 " * 600], 5)
    assert short is not None
    assert long is None
    assert "511 tokens" in local.problem


def test_a_local_judge_prefers_one_of_two_different_answers_whatever_their_order(local: LocalJudge) -> None:
    one, other = local.prefer("1?", "2", "no"), local.prefer("1?", "no", "2")
    assert one is not None
    assert other == 1 - one
    assert local.prefer("1?", "2", "2") is None


def test_an_endpoint_is_asked_with_its_key_and_its_first_number_counts(server: JudgeServer) -> None:
    server.reply = lambda question: "<think>2, no: 3</think> 4/5, since it is short." if "PARIS" in question else "1"
    judge = asking(server)
    assert judge.scores([("Capital?", "PARIS"), ("Capital?", "no")]) == [0.75, 0.0]
    assert {asked["path"] for asked in server.asked} == {"/v1/chat/completions"}
    assert all("Short is good." in asked["messages"][0]["content"] for asked in server.asked)
    server.reply = lambda question: "1" if question.index("FINE") < question.index("POOR") else "2"
    assert judge.prefer("Which?", "POOR", "FINE") == 1


@pytest.mark.parametrize("reply", ["", "It is good.", "0", "6", "100%", "GPT4", "<think>5"[:-1]])
def test_nonsense_is_no_judgement(server: JudgeServer, reply: str) -> None:
    server.reply = lambda question: reply
    judge = asking(server)
    assert judge.score("Capital?", "Paris") is None
    assert "a number from 1 to 5" in judge.problem
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "body", [b"<html>", b"{}", b'{"choices": []}', b'{"choices": [{"message": null}]}', b"[" * 9999]
)
def test_another_kind_of_server_is_no_judge(server: JudgeServer, body: bytes) -> None:
    server.body = body
    judge = asking(server)
    assert judge.score("Capital?", "Paris") is None
    assert "OpenAI-compatible" in judge.problem


def test_a_busy_endpoint_is_asked_again_and_one_that_refuses_is_not(server: JudgeServer) -> None:
    server.failures = [503, 429]
    assert asking(server).score("Capital?", "Paris") == 1.0
    assert len(server.asked) == 3
    server.failures = [500] * 3
    judge = asking(server)
    assert judge.score("Capital?", "Paris") is None
    assert "status 500: busy" in judge.problem
    assert len(server.asked) == 6
    # A redirect is not followed: its address was not looked at.
    for refusal in (302, 400, 404):
        server.failures = [refusal]
        assert asking(server).score("Capital?", "Paris") is None
    assert len(server.asked) == 9


def test_an_endpoint_that_does_not_answer_is_given_up(server: JudgeServer) -> None:
    server.delay = 0.6
    judge = asking(server, seconds=0.2)
    assert judge.score("Capital?", "Paris") is None
    assert "within 0.2 seconds" in judge.problem
    assert len(server.asked) == 3
    gone = EndpointJudge(Endpoint("http://127.0.0.1:1/v1", "m", "", frozenset({"127.0.0.1"})), pause=0.01)
    assert gone.score("Capital?", "Paris") is None
    assert "cannot be reached" in gone.problem


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/v1",
        "https://10.0.0.1/v1",
        "https://169.254.169.254/latest",
        "https://[::1]/v1",
        "https://[::ffff:10.0.0.1]/v1",
        "https://[fd00::1]/v1",
        "https://[64:ff9b::10.0.0.1]/v1",
        "https://[2002:0a00:0001::]/v1",
        "https://100.64.0.1/v1",
        "https://0.0.0.0/v1",
        "http://api.example.com/v1",
        "ftp://api.example.com",
        "file:///etc/passwd",
        "api.example.com/v1",
        "https://user:pass@api.example.com/v1",
        "https://api.example.com/v1?key=1",
        "https://api.example.com:99999/v1",
        "https://api.example.com/v1\r\nHost: other",
        "",
    ],
)
def test_addresses_that_are_not_public_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must"):
        check_url(url)
    with pytest.raises(ConfigError):
        EndpointJudge(Endpoint(url, "m"))


@pytest.mark.parametrize("url", ["https://api.example.com/v1", "https://api.example.com:8443", "https://8.8.8.8/v1"])
def test_public_addresses_are_taken(url: str) -> None:
    assert check_url(url).scheme == "https"


def test_a_name_that_leads_inside_is_refused_when_it_is_connected_to(server: JudgeServer) -> None:
    assert check_url("https://localhost/v1").hostname == "localhost"
    for name in ("localhost", "2130706433", "0x7f.1"):
        with pytest.raises(ValueError, match="public address"):
            connect(name, server.server_port, Trusted("POLM_JUDGE_HOSTS"), timeout=1)
    judge = EndpointJudge(Endpoint(f"https://localhost:{server.server_port}/v1", "m"))
    assert judge.score("Capital?", "Paris") is None
    assert "POLM_JUDGE_HOSTS" in judge.problem
    assert not server.asked


def test_the_endpoint_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, server: JudgeServer) -> None:
    with pytest.raises(ConfigError, match="no endpoint"):
        bring_judge("endpoint", None, config=TrainConfig())
    answering_to(server, monkeypatch)
    monkeypatch.setenv("POLM_JUDGE_HOSTS", " 127.0.0.1 ,vllm")
    assert bring_judge("endpoint", None, config=TrainConfig()).score("Capital?", "Paris") == 1.0
    with pytest.raises(ModelError, match="no judge model"):
        bring_judge("model", None, config=TrainConfig())
