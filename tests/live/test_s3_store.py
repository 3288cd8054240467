"""The whole of a run with the artifact store in a bucket: everything people and workers read comes from there."""

import hashlib
import io
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.lookalikes import alpaca
from tests.support.s3 import BUCKET, S3Server
from tests.support.studio import RunningStudio
from tests.support.tiny import build_model

pytestmark = pytest.mark.live


@pytest.fixture
def bucket_studio(s3_server: S3Server) -> Iterator[RunningStudio]:
    """A studio whose store is an empty bucket."""
    httpx.post(f"{s3_server.env['AWS_ENDPOINT_URL']}/moto-api/reset", trust_env=False)
    httpx.put(f"{s3_server.env['AWS_ENDPOINT_URL']}/{BUCKET}", trust_env=False)
    var = Path(tempfile.mkdtemp(prefix="polm-live-s3-"))
    var.chmod(0o711)
    running = RunningStudio(var, ARTIFACT_URL=f"s3://{BUCKET}/studio", **s3_server.env)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(var, ignore_errors=True)


@pytest.mark.timeout(600)
def test_a_run_with_its_store_in_a_bucket(bucket_studio: RunningStudio, s3_server: S3Server) -> None:
    studio = bucket_studio
    build_model(studio.var / "models" / "tiny")
    model = studio.add_model(studio.var / "models" / "tiny", "tiny")
    dataset = studio.upload("instructions", "instructions.json", alpaca(60))
    assert dataset["status"] == "ready"
    assert studio.api.get(f"/datasets/{dataset['id']}/rows").json()["items"]

    config = {"max_steps": 6, "save_steps": 2, "batch_size": 2, "max_length": 128, "generation": {"samples": 0}}
    pk = studio.launch(method="sft", model=model, dataset=dataset["id"], config=config)
    run = studio.wait_for_run(pk, seconds=300)
    assert run["status"] == "succeeded", run["error"]

    listed = studio.api.get(f"/runs/{pk}/checkpoints").json()["items"]
    assert [one["step"] for one in listed] == [6, 4, 2]
    newest = studio.api.get(f"/checkpoints/{listed[0]['id']}").json()
    sums = {file["path"]: file["sha256"] for file in newest["files"]}
    download = studio.api.get(f"/checkpoints/{listed[0]['id']}/download")
    with zipfile.ZipFile(io.BytesIO(download.content)) as archive:
        assert archive.testzip() is None
        weights = next(name for name in archive.namelist() if name.endswith("model.safetensors"))
        assert hashlib.sha256(archive.read(weights)).hexdigest() == sums["model.safetensors"]

    # What starts from a checkpoint fetches it from the bucket.
    again = studio.launch(method="sft", model=listed[0]["id"], dataset=dataset["id"], config=config)
    answer = studio.api.post("/generations", json={"models": [listed[0]["id"]], "prompt": "1 + 1 ="})
    assert answer.status_code == 201, answer.text
    assert studio.wait_for_run(again, seconds=300)["status"] == "succeeded"
    assert (studio.var / "cache" / "store" / "runs" / pk / "step-6" / "model.safetensors").exists()
    generation = answer.json()["items"][0]["id"]
    studio.wait_for(
        lambda: studio.api.get(f"/generations/{generation}").json()["status"] == "done", 120, "an answer of the model"
    )

    # What a project keeps no more leaves the bucket.
    (project,) = studio.api.get("/projects").json()["items"]
    kept = studio.api.patch(f"/projects/{project['id']}", json={"retention": {"keep_last": 1}})
    assert kept.status_code == 200, kept.text

    def removed() -> bool:
        found = studio.api.get(f"/runs/{pk}/checkpoints").json()
        return [one["step"] for one in found["removed_by_retention"]] == [4, 2]

    studio.wait_for(removed, 60, "retention")

    def in_the_bucket() -> str:
        return httpx.get(
            f"{s3_server.env['AWS_ENDPOINT_URL']}/{BUCKET}?list-type=2&prefix=studio/runs/{pk}/", trust_env=False
        ).text

    # The files go once what says so is stored.
    studio.wait_for(lambda: f"studio/runs/{pk}/step-4/" not in in_the_bucket(), 60, "the files to go")
    assert f"studio/runs/{pk}/step-6/model.safetensors" in in_the_bucket()
