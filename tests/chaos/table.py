"""The faults of the campaign, in the order in which they are tried."""

from signal import SIGKILL, SIGSTOP, SIGTERM

from tests.chaos import faults, faults_of_files
from tests.chaos.faults import Fault, broker_of, postgres_of
from tests.chaos.faults_of_files import artifact_store, full, no_mounts, run_directories, spoilt

FAULTS = (
    Fault("worker-sigkill", "SIGKILL of a training worker", faults.worker(SIGKILL)),
    Fault("worker-sigterm", "SIGTERM of a training worker", faults.worker(SIGTERM)),
    Fault("child-sigkill", "SIGKILL of a training process", faults.child(SIGKILL)),
    Fault("child-sigterm", "SIGTERM of a training process", faults.child(SIGTERM)),
    Fault("child-frozen", "SIGSTOP of a training process: a stall, retried", faults.child(SIGSTOP), bar=120),
    Fault(
        "child-hangs", "the training loop hangs in a read: a stall, retried", faults.child_hangs, bar=120, quick=True
    ),
    Fault("keeper-sigkill", "SIGKILL of a training process's keeper", faults.keeper, quick=True),
    Fault("fork-server-sigkill", "SIGKILL of the fork server and of a child of it", faults.fork_server, bar=90),
    Fault("launcher-sigkill", "SIGKILL of a machine's launcher, then a new one", faults.launcher, bar=90),
    Fault(
        "machine-power-failure", "all of a machine killed at once, then started", faults.machine_power_failure, bar=120
    ),
    Fault("machine-gone", "a machine and its disk gone for good", faults.machine_gone, bar=180),
    Fault(
        "worker-hangs",
        "launcher and worker frozen until another machine has the run",
        faults.worker_hangs,
        bar=240,
        runs=1,
        outlasts=True,
    ),
    Fault("two-supervisors", "two workers on one run directory", faults.two_supervisors, outlasts=True),
    Fault("web-sigkill", "SIGKILL of the web process", faults.program("web", SIGKILL)),
    Fault("web-sigterm", "SIGTERM of the web process", faults.program("web", SIGTERM)),
    Fault("scheduler-sigkill", "SIGKILL of the scheduler", faults.program("scheduler", SIGKILL)),
    Fault("scheduler-sigterm", "SIGTERM of the scheduler", faults.program("scheduler", SIGTERM)),
    Fault("postgres-sigkill", "SIGKILL of Postgres", faults.killed(postgres_of), quick=True),
    Fault("postgres-outage", "Postgres down for 60 s", faults.outage(postgres_of), outlasts=True),
    Fault("postgres-hangs", "Postgres answers nothing for 60 s", faults.hang(postgres_of), outlasts=True),
    Fault("broker-sigkill", "SIGKILL of the broker", faults.killed(broker_of)),
    Fault("broker-outage", "the broker down for 60 s", faults.outage(broker_of), outlasts=True),
    Fault(
        "broker-wiped",
        "SIGKILL of the broker and all its data deleted",
        faults.outage(broker_of, faults.wipe_broker),
        quick=True,
    ),
    Fault("wake-ups", "200 wake-ups at once and 50 late ones", faults.wake_ups, runs=3),
    Fault("clock-forward", "the database's clock jumps an hour ahead (leases shifted)", faults.clock_forward),
    Fault("clock-back", "it jumps an hour back while a worker is killed (leases shifted)", faults.clock_back),
    Fault(
        "metrics-cut-short",
        "lines and a half lost at the end of metrics.jsonl",
        spoilt(faults_of_files.cut_short),
        quick=True,
    ),
    Fault("metrics-corrupted", "garbage and half a line at the end of metrics.jsonl", spoilt(faults_of_files.corrupt)),
    Fault("run-disk-full", "no space in the run directories, then some", full(run_directories), obstacle=no_mounts),
    Fault(
        "store-full", "no space in the artifact store, then some", full(artifact_store), quick=True, obstacle=no_mounts
    ),
)
