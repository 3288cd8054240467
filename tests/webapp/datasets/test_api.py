"""Datasets over the API, prepared by the real worker function."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from tests.support.api import ApiClient
from tests.support.runs import make_run
from tests.webapp.datasets import files
from webapp import artifacts
from webapp.accounts.models import Role, Team, User
from webapp.datasets import selectors
from webapp.datasets.models import Dataset, DatasetVersion
from workers.datasets import process

MakePrepared = Callable[..., DatasetVersion]


def send(api: ApiClient, content: bytes, filename: str = "rows.jsonl", **form: str) -> Any:
    return api.post("/datasets", files={"file": SimpleUploadedFile(filename, content)}, form={"name": "sums", **form})


def prepare_all() -> None:
    for version in DatasetVersion.objects.filter(status="processing"):
        process(str(version.pk))


def test_upload_process_read_and_delete(api: ApiClient, django_capture_on_commit_callbacks: Any) -> None:
    answer = send(api, files.preferences(30), origin="synthetic", description="Made up.")
    assert answer.status_code == 201, answer.content
    created = answer.json()
    assert created["status"] == "processing"
    detail = api.get(f"/datasets/{created['id']}").json()
    assert (detail["status"], detail["problems"], detail["rows"]) == ("processing", [], 0)

    prepare_all()
    detail = api.get(f"/datasets/{created['id']}").json()
    assert (detail["status"], detail["format"], detail["rows"]) == ("ready", "preference", 30)
    assert detail["mapping"]["columns"] == {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
    assert (detail["origin"], detail["description"], detail["created_by"]) == ("synthetic", "Made up.", "max")
    assert [column["path"] for column in detail["columns"]] == ["prompt", "chosen", "rejected"]
    assert detail["stats"]["chars_max"] > 0
    assert [version["number"] for version in detail["versions"]] == [1]

    rows = api.get(f"/datasets/{created['id']}/rows", {"offset": 28, "limit": 10}).json()
    assert (len(rows["items"]), rows["total"], rows["next_offset"]) == (2, 30, None)
    assert rows["items"][0]["chosen"] == [{"role": "assistant", "content": "28 + 1 = 29."}]

    with django_capture_on_commit_callbacks(execute=True):
        assert api.delete(f"/datasets/{created['id']}").status_code == 204
    assert api.get(f"/datasets/{created['id']}").status_code == 404
    assert not list(Path(settings.UPLOADS_DIR).iterdir())


def test_upload_with_format_and_mapping(api: ApiClient) -> None:
    mapping = {"format": "prompt-answer", "columns": {"prompt": "question", "answer": "answer"}}
    created = send(api, files.questions(), format="prompt-answer", mapping=json.dumps(mapping)).json()
    prepare_all()
    detail = api.get(f"/datasets/{created['id']}").json()
    assert (detail["status"], detail["format"], detail["confidence"]) == ("ready", "prompt-answer", 1.0)
    rows = api.get(f"/datasets/{created['id']}/rows").json()["items"]
    assert rows[0]["answer"].startswith("One more.")


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"name": ""}, "name"),
        ({"format": "xml"}, "format"),
        ({"mapping": "{"}, "mapping"),
        ({"mapping": "[1]"}, "mapping"),
        ({"mapping": "[" * 100_000}, "mapping"),
        ({"mapping": '{"format": "text", "columns": {"chosen": "a"}}'}, "mapping"),
        ({"origin": "elsewhere"}, "origin"),
        ({"team": "nobody"}, "team"),
        ({"surprise": "1"}, "surprise"),
    ],
)
def test_a_bad_field_is_named(api: ApiClient, form: dict[str, str], field: str) -> None:
    answer = send(api, files.conversations(), **form)
    assert answer.status_code == 422, answer.content
    error = answer.json()["error"]
    assert list(error["fields"]) == [field]
    assert not Dataset.objects.exists()


def test_beside_a_format_the_columns_are_mapping_enough(api: ApiClient) -> None:
    content = b'{"text": "Why?", "note": "So."}\n' * 20
    columns = {"prompt": "text", "completion": "note"}
    created = send(api, content, format="prompt-completion", mapping=json.dumps(columns)).json()
    prepare_all()
    detail = api.get(f"/datasets/{created['id']}").json()
    assert (detail["status"], detail["mapping"]["columns"]) == ("ready", columns)
    again = api.post(f"/datasets/{created['id']}/remap", {"format": "text", "mapping": {"columns": {"text": "note"}}})
    assert again.status_code == 201, again.content
    refused = send(api, content, name="other", mapping=json.dumps(columns))
    assert refused.status_code == 422, "without a format nothing says what the columns are for"


def test_a_status_comes_with_what_was_found(api: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    created = send(api, b"%PDF-1.4 nothing to read").json()
    looked = selectors.version_get

    def finished_after(*args: Any) -> DatasetVersion:
        version = looked(*args)
        prepare_all()
        return version

    monkeypatch.setattr(selectors, "version_get", finished_after)
    details = [api.get(f"/datasets/{created['id']}").json() for _ in range(2)]
    assert [(one["status"], one["error"] and one["error"]["message"]) for one in details] == [
        ("processing", None),
        ("invalid", "The file is a PDF."),
    ]


def test_no_file_no_name_and_no_form(api: ApiClient) -> None:
    assert "file" in api.post("/datasets", form={"name": "a"}).json()["error"]["fields"]
    nameless = api.post("/datasets", files={"file": SimpleUploadedFile("a.jsonl", files.conversations())})
    assert "name" in nameless.json()["error"]["fields"]
    assert api.post("/datasets", {"name": "a"}).status_code == 422


def test_filenames_are_kept_short_and_never_paths(api: ApiClient) -> None:
    for number, name in enumerate(("../../etc/passwd.jsonl", "a" * 300 + ".jsonl", "x." + "y" * 300, "ü\u202e.jsonl")):
        created = send(api, files.conversations(), name, name=f"n{number}")
        assert created.status_code == 201, created.content
        filename = api.get(f"/datasets/{created.json()['id']}").json()["filename"]
        assert "/" not in filename
        assert len(filename) <= 255


def test_lists_page_newest_first_and_find_by_name(api: ApiClient, make_dataset: Any) -> None:
    for number in range(5):
        make_dataset(files.conversations(1), name=f"set {number}")
    first = api.get("/datasets", {"limit": 3}).json()
    assert [item["name"] for item in first["items"]] == ["set 4", "set 3", "set 2"]
    second = api.get("/datasets", {"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [item["name"] for item in second["items"]] == ["set 1", "set 0"]
    assert second["next_cursor"] is None
    assert [item["name"] for item in api.get("/datasets", {"q": "T 3"}).json()["items"]] == ["set 3"]
    assert api.get("/datasets", {"limit": 201}).status_code == 422
    assert api.get("/datasets", {"cursor": "?"}).status_code == 422


def test_a_list_costs_the_same_however_long(
    api: ApiClient,
    make_dataset: Any,
    make_prepared: MakePrepared,
    team: Team,
    django_assert_max_num_queries: Any,
) -> None:
    version = make_prepared(files.conversations())
    make_run(team, "one", dataset_version=version)
    make_run(team, "two", dataset_version=version, eval_dataset_version=version)
    for number in range(5):
        make_dataset(files.conversations(2), name=f"set {number}")
    with django_assert_max_num_queries(6):
        items = {item["name"]: item for item in api.get("/datasets").json()["items"]}
    assert (items["sums"]["runs"], items["sums"]["eval_runs"], items["sums"]["rows"]) == (2, 1, 20)
    assert items["set 0"]["runs"] == 0


def test_rows_that_do_not_exist_yet(api: ApiClient, make_dataset: Any, make_prepared: MakePrepared) -> None:
    waiting = make_dataset(files.conversations(), name="waiting")
    invalid = make_prepared(b"{", name="invalid")
    for pk in (waiting.pk, invalid.dataset_id):
        assert api.get(f"/datasets/{pk}/rows").status_code == 409
    ready = make_prepared(files.conversations(), name="ready")
    rows = api.get(f"/datasets/{ready.dataset_id}/rows", {"offset": 10**12}).json()
    assert (rows["items"], rows["next_offset"]) == ([], None)
    for query in ({"offset": -1}, {"limit": 0}, {"limit": 1000}, {"offset": 10**30}, {"offset": "x"}):
        assert api.get(f"/datasets/{ready.dataset_id}/rows", query).status_code == 422
    assert api.get(f"/datasets/{ready.dataset_id}/rows", {"version": 2}).status_code == 404


def test_large_rows_make_short_pages(
    api: ApiClient, make_prepared: MakePrepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = make_prepared(files.jsonl([{"text": "word " * 200} for _ in range(10)]))
    monkeypatch.setattr(selectors, "MAX_ROWS_BYTES", 2500)
    seen: list[Any] = []
    offset: int | None = 0
    while offset is not None:
        page = api.get(f"/datasets/{version.dataset_id}/rows", {"offset": offset}).json()
        assert len(page["items"]) <= 3
        seen += page["items"]
        offset = page["next_offset"]
    assert len(seen) == 10


def test_rows_are_downloaded_as_one_file(
    api: ApiClient, pages: Client, make_prepared: MakePrepared, make_dataset: Any
) -> None:
    version = make_prepared(files.preferences(30), name="Sums, again")
    expected = api.get(f"/datasets/{version.dataset_id}/rows", {"limit": 100}).json()["items"]
    for answer in (
        api.get(f"/datasets/{version.dataset_id}/rows.jsonl"),
        pages.get(f"/datasets/{version.dataset_id}/rows.jsonl?version=1"),
    ):
        content = answer.getvalue()
        assert [json.loads(line) for line in content.splitlines()] == expected
        assert int(answer.headers["Content-Length"]) == len(content) == version.bytes
        assert answer.headers["Content-Disposition"] == 'attachment; filename="sums-again-v1.jsonl"'
    head = pages.head(f"/datasets/{version.dataset_id}/rows.jsonl")
    assert (head.content, head.headers["Content-Length"]) == (b"", str(version.bytes))
    assert api.get(f"/datasets/{version.dataset_id}/rows.jsonl", {"version": 2}).status_code == 404
    waiting = make_dataset(files.preferences(5), name="waiting")
    assert api.get(f"/datasets/{waiting.pk}/rows.jsonl").status_code == 409
    artifacts.delete(version.rows_key)
    assert api.get(f"/datasets/{version.dataset_id}/rows.jsonl").status_code == 404


def test_preview_shows_what_a_mapping_would_make(api: ApiClient, make_prepared: MakePrepared) -> None:
    path = f"/datasets/{make_prepared(files.preferences()).dataset_id}/preview"
    detected = api.get(path, {"limit": 3}).json()
    assert len(detected["rows"]) == 3
    assert detected["detected"]["candidates"][0]["format"] == "preference"
    assert detected["rows"][0]["mapped"]["rejected"] == [{"role": "assistant", "content": "Nobody knows."}]
    mapping = {"format": "text", "columns": {"text": "chosen"}}
    assert api.get(path, {"mapping": json.dumps(mapping)}).json()["rows"][0]["mapped"] == {"text": "0 + 1 = 1."}
    mapping["columns"]["text"] = "chosn"
    refused = api.get(path, {"mapping": json.dumps(mapping)})
    assert refused.status_code == 422
    assert "chosen" in refused.json()["error"]["fields"]["mapping.columns.text"][0]


def test_remap_makes_the_next_version(api: ApiClient, make_prepared: MakePrepared) -> None:
    pk = make_prepared(files.preferences()).dataset_id
    answer = api.post(f"/datasets/{pk}/remap", {"format": "prompt"})
    assert (answer.status_code, answer.json()["version"], answer.json()["status"]) == (201, 2, "processing")
    assert api.post(f"/datasets/{pk}/remap", {"format": "text"}).status_code == 409
    # The rows of the last good version stay readable meanwhile.
    assert api.get(f"/datasets/{pk}/rows").json()["total"] == 20
    prepare_all()
    assert list(api.get(f"/datasets/{pk}/rows").json()["items"][0]) == ["prompt"]
    assert "chosen" in api.get(f"/datasets/{pk}/rows", {"version": 1}).json()["items"][0]
    wrong = api.post(f"/datasets/{pk}/remap", {"mapping": {"format": "text", "columns": {"text": "nothing"}}})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "data.mapping")


def test_a_wrong_guess_is_mended_by_a_mapping(api: ApiClient, make_prepared: MakePrepared) -> None:
    odd = files.jsonl([{"zeta": f"What is {n}?", "omega": f"It is {n}."} for n in range(20)])
    version = make_prepared(odd)
    assert version.status == "invalid"
    mapping = {"format": "conversation", "columns": {"prompt": "zeta", "completion": "omega"}}
    assert api.post(f"/datasets/{version.dataset_id}/remap", {"mapping": mapping}).status_code == 201
    prepare_all()
    assert api.get(f"/datasets/{version.dataset_id}").json()["rows"] == 20


def test_patch(api: ApiClient, make_dataset: Any) -> None:
    pk = make_dataset(files.conversations()).pk
    answer = api.patch(f"/datasets/{pk}", {"name": "renamed", "origin": "human-labelled"})
    assert (answer.status_code, answer.json()["name"], answer.json()["origin"]) == (200, "renamed", "human-labelled")
    assert api.patch(f"/datasets/{pk}", {"rows": 3}).status_code == 422
    assert api.patch(f"/datasets/{pk}", {"name": ""}).status_code == 422


def test_a_used_dataset_is_kept(api: ApiClient, make_prepared: MakePrepared, team: Team) -> None:
    version = make_prepared(files.conversations())
    run = make_run(team, dataset_version=version)
    answer = api.delete(f"/datasets/{version.dataset_id}")
    assert answer.status_code == 409
    assert answer.json()["error"]["fields"]["runs"] == [str(run.pk)]
    assert api.get(f"/datasets/{version.dataset_id}/rows").json()["total"] == 20


def test_who_may_do_what(
    api_of: Callable[[User], ApiClient], make_prepared: MakePrepared, viewer: User, outsider: User, team: Team
) -> None:
    path = f"/datasets/{make_prepared(files.conversations()).dataset_id}"
    reads = [("get", path), ("get", f"{path}/rows"), ("get", f"{path}/preview")]
    writes = [("patch", path), ("post", f"{path}/remap"), ("delete", path)]
    for verb, url in reads:
        assert getattr(api_of(viewer), verb)(url).status_code == 200
    for verb, url in reads + writes:
        assert (
            getattr(api_of(outsider), verb)(url, **({} if verb in ("get", "delete") else {"body": {}})).status_code
            == 404
        )
        assert getattr(ApiClient(), verb)(url).status_code in (401, 403)
    for verb, url in writes:
        assert getattr(api_of(viewer), verb)(url, **({} if verb == "delete" else {"body": {}})).status_code == 403
    assert send(api_of(viewer), files.conversations()).status_code == 403
    assert send(api_of(outsider), files.conversations(), team=str(team.pk)).status_code == 422
    assert api_of(outsider).get("/datasets").json()["items"] == []
    assert send(ApiClient(), files.conversations()).status_code in (401, 403)
    assert not list(Path(settings.UPLOADS_DIR).iterdir())


def test_unknown_ids(api: ApiClient, db: None) -> None:
    for pk in ("0193b5a6-0000-7000-8000-000000000000", "not-an-id", "%00"):
        assert api.get(f"/datasets/{pk}").status_code == 404


def test_the_team_is_chosen_by_id_or_slug(api: ApiClient, team: Team, member: User, other_team: Team) -> None:
    other_team.memberships.create(user=member, role=Role.MEMBER)
    for number, (ref, wanted) in enumerate(((str(other_team.pk), other_team), ("blue", other_team), ("", team))):
        created = send(api, files.conversations(), name=f"n{number}", team=ref).json()
        assert api.get(f"/datasets/{created['id']}").json()["team"] == str(wanted.pk)
    assert len(api.get("/datasets", {"team": "blue"}).json()["items"]) == 2


def test_a_preview_needs_rows(api: ApiClient, make_dataset: Any, make_prepared: MakePrepared) -> None:
    waiting = make_dataset(files.conversations(), name="waiting").pk
    junk = make_prepared(bytes(range(256)) * 9, name="junk").dataset_id
    for pk, status, said in ((waiting, 409, "still being processed"), (junk, 422, "No row could be read")):
        answer = api.get(f"/datasets/{pk}/preview")
        assert answer.status_code == status
        assert said in answer.json()["error"]["message"]


def test_texts_that_no_database_holds_are_refused(api: ApiClient, make_prepared: MakePrepared) -> None:
    path = f"/datasets/{make_prepared(files.conversations()).dataset_id}"
    for odd in ("a\0b", "half \ud83d"):
        for field in ("name", "description", "origin_model"):
            answer = api.patch(path, {field: odd})
            assert (answer.status_code, list(answer.json()["error"]["fields"])) == (422, [field])
        mapping = {"format": "text", "columns": {"text": odd}}
        assert api.post(f"{path}/remap", {"mapping": mapping}).status_code == 422
        assert api.get(f"{path}/preview", {"mapping": json.dumps(mapping)}).status_code == 422
    tags = {"format": "conversation", "columns": {"messages": "messages"}, "options": {"roles": {"a\0": "user"}}}
    assert api.post(f"{path}/remap", {"mapping": tags}).status_code == 422
    assert api.get("/datasets", {"q": "a\0"}).json()["items"] == []
