"""A real Slurm of one node on 127.0.0.1, as the tests of benchmark/slurm.sh use it."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=60
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1
PartitionName=high Nodes=ALL PriorityTier=2
"""


def missing() -> str:
    """What the cluster lacks here, or nothing."""
    if os.geteuid() != 0:
        return "root, as which slurmd runs"
    return ", ".join(name for name in NEEDED if not shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin"))


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Slurm:
    """Started with the object, stopped with `stop`; `environment` makes sbatch and its kin find it."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="slurm"))
        self.folder.chmod(0o755)
        munge = self.folder / "munge"
        munge.mkdir()
        (munge / "key").write_bytes(os.urandom(128))
        (munge / "key").chmod(0o400)
        user = pwd.getpwnam("munge")
        for path in (munge, munge / "key"):
            os.chown(path, user.pw_uid, user.pw_gid)
        host = socket.gethostname().split(".")[0]
        text = CONFIGURATION.format(host=host, folder=self.folder, port=free_port(), node_port=free_port())
        (self.folder / "slurm.conf").write_text(text)
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        path = os.environ["PATH"] + ":/usr/sbin"
        self.environment = os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": path}
        files = ["--key-file", munge / "key", "--socket", munge / "socket", "--pid-file", munge / "pid"]
        files += ["--log-file", munge / "log", "--seed-file", munge / "seed"]
        self.daemons = []
        try:
            munged = ["munged", "--foreground", *files]
            self.start(munged, user="munge", group="munge", extra_groups=[])
            self.wait_for(lambda: (munge / "socket").exists())
            self.start(["slurmctld", "-D"])
            self.start(["slurmd", "-D", "-N", host])
            self.wait_for(lambda: "idle" in self.run("sinfo", "--noheader", "--format=%T"))
        except BaseException:
            self.stop()
            raise

    def start(self, command, **how) -> None:
        log = open(self.folder / f"{command[0]}.out", "w")  # noqa: SIM115
        self.daemons.append(
            subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, start_new_session=True, **how)
        )

    def run(self, *command: str) -> str:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True).stdout

    def wait_for(self, condition, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                logs = [f"{x.name}:\n{x.read_text()[-2000:]}" for x in self.folder.glob("*.[lo][ou][gt]")]
                raise TimeoutError("\n".join(["what was waited for did not come", self.run("squeue"), *logs]))
            time.sleep(0.2)

    def stop(self) -> None:
        self.run("scancel", "--user=root", "--signal=KILL", "--full")
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in reversed(self.daemons):
            daemon.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)
