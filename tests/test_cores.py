"""Cores of containers: made-up files of the kernel, as Docker, Kubernetes and SLURM leave them."""

import os

import pytest

from lth_flax import cores
from lth_flax.experiments import sweep_task

HOST = 64
"""Cores that the made-up host lets a process run on."""

V2 = "30 24 0:26 {root} {point} ro,nosuid shared:4 - cgroup2 cgroup rw,nsdelegate\n"
V1 = "31 24 0:27 {root} {point} ro,nosuid master:9 - cgroup cgroup rw,cpu,cpuacct\n"
MEMORY = "32 24 0:28 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"


@pytest.fixture
def cores_of(tmp_path, monkeypatch):
    """A function from files of a made-up machine to the cores that are counted on it."""

    def count(files, host=HOST):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(host)), raising=False)
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return cores.cores_here(tmp_path)

    return count


def version_2(path, limits, root="/"):
    """limits: directory below the mount -> content of its cpu.max."""
    return {
        "proc/self/cgroup": f"0::{path}\n",
        "proc/self/mountinfo": V2.format(root=root, point="/sys/fs/cgroup"),
        **{f"sys/fs/cgroup/{where}/cpu.max": text for where, text in limits.items()},
    }


def version_1(path, quotas, root="/", point="/sys/fs/cgroup/cpu,cpuacct"):
    """quotas: directory below the mount -> (microseconds, of a period of so many)."""
    files = {
        "proc/self/cgroup": f"5:memory:/other\n4:cpuacct,cpu:{path}\n0::/unified\n",
        "proc/self/mountinfo": MEMORY + V1.format(root=root, point=point),
    }
    folder = point.lstrip("/").replace("\\040", " ")
    for where, (quota, period) in quotas.items():
        files[f"{folder}/{where}/cpu.cfs_quota_us"] = f"{quota}\n"
        files[f"{folder}/{where}/cpu.cfs_period_us"] = f"{period}\n"
    return files


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, HOST),  # no cgroups, as on a Mac
        (version_2("/", {}), HOST),
        (version_2("/", {".": "max 100000\n"}), HOST),
        (version_2("/", {".": "200000 100000\n"}), 2),  # docker run --cpus=2
        (version_2("/", {".": "150000 100000\n"}), 2),  # a part of a core is one more
        (version_2("/", {".": "20000 100000\n"}), 1),
        (version_2("/", {".": "40000 10000\n"}), 4),
        (version_2("/", {".": "9900000 100000\n"}), HOST),  # more than there are
        # The tightest of all that a cgroup lies in, also where its own has none.
        (version_2("/pod/box", {"pod/box": "max 100000\n", "pod": "300000 100000\n"}), 3),
        (version_2("/pod/box", {"pod/box": "500000 100000\n", "pod": "300000 100000\n"}), 3),
        (version_2("/pod/box", {"pod/box": "100000 100000\n", "other": "1 1\n"}), 1),
        # Mounted from the middle of the host's tree, whose path is told.
        (version_2("/pod/box", {".": "200000 100000\n"}, root="/pod/box"), 2),
        (version_2("/pod/box/job", {"job": "200000 100000\n"}, root="/pod/box"), 2),
        (version_2("/pods", {".": "200000 100000\n"}, root="/pod"), 2),
        (version_2("/../..", {".": "200000 100000\n"}), 2),  # of another namespace
        (version_1("/", {".": (-1, 100_000)}), HOST),
        (version_1("/", {".": (250_000, 100_000)}), 3),
        (version_1("/docker/abc", {".": (200_000, 100_000)}, root="/docker/abc"), 2),
        (version_1("/slurm/job", {"slurm/job": (-1, 100_000), "slurm": (400_000, 100_000)}), 4),
        (version_1("/", {".": (200_000, 100_000)}, point="/a\\040b/cpu"), 2),
        # What cannot be read is no quota.
        (version_2("/", {".": "many\n"}), HOST),
        (version_2("/", {".": "100000 0\n"}), HOST),
        (version_2("/", {".": ""}), HOST),
        ({"proc/self/cgroup": "garbage\n\n::\n", "proc/self/mountinfo": "1 2\n - \n"}, HOST),
    ],
)
def test_a_quota_counts_and_not_the_host(cores_of, files, expected):
    assert cores_of(files) == expected


def test_of_both_versions_the_tighter_counts(cores_of):
    first, second = version_1("/", {".": (300_000, 100_000)}), version_2("/", {})
    both = first["proc/self/mountinfo"] + second["proc/self/mountinfo"]
    files = {**first, "proc/self/mountinfo": both}
    assert cores_of(files) == 3
    assert cores_of({"sys/fs/cgroup/unified/cpu.max": "200000 100000\n"}) == 2


def test_where_a_process_may_run_counts_too(cores_of):
    assert cores_of(version_2("/", {".": "400000 100000\n"}), host=3) == 3


def test_a_system_without_affinity(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    for count, expected in ((6, 6), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert cores.cores_here(tmp_path) == expected


def test_a_task_of_a_sweep_takes_no_more_than_the_quota(tmp_path, monkeypatch):
    pinned = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(
        os, "sched_setaffinity", lambda pid, which: pinned.append(which), raising=False
    )
    monkeypatch.setattr(sweep_task, "cores_here", lambda: 2)
    for file in sweep_task.take_cores(4, tmp_path):
        file.close()
    assert [len(which) for which in pinned] == [2]
