"""Each probe on a tree or a module of the test's own making."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.detect.amd import probe_amd
from app.detect.apple import find_mac
from app.detect.files import read_int, read_text
from app.detect.intel import probe_intel
from app.detect.linux import find_cpu, find_memory
from app.detect.nvidia import probe_nvidia
from app.detect.windows import Processor, find_windows_cpu
from tests.app.detect.trees import MIB, FakeNvml, amd_card, memory, processor, write

GIB = 2**30


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    return tmp_path / "proc"


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    return tmp_path / "sys"


def test_cores_are_physical_and_allowed(proc: Path, sys: Path) -> None:
    processor(proc, sys, name="Intel(R)  Xeon(R) CPU @ 2.30GHz", threads=8, threads_per_core=2)
    cpu = find_cpu(proc, sys)
    assert cpu is not None
    assert (cpu.name, cpu.vendor) == ("Intel(R) Xeon(R) CPU @ 2.30GHz", "intel")
    assert (cpu.cores, cpu.cores_present, cpu.threads) == (4, 4, 8)
    assert cpu.hertz == 2_300_000_000
    assert {"avx2", "fma"} <= set(cpu.flags)
    pinned = find_cpu(proc, sys, allowed_threads=3)
    assert pinned is not None
    assert pinned.cores == 2


def test_the_kernels_base_clock_wins_over_the_moments(proc: Path, sys: Path) -> None:
    processor(proc, sys)
    now = find_cpu(proc, sys)
    write(sys, {"devices/system/cpu/cpu0/cpufreq/base_frequency": 3_400_000})
    base = find_cpu(proc, sys)
    assert now is not None
    assert base is not None
    assert (now.hertz, base.hertz) == (2_400_000_000, 3_400_000_000)


def test_a_container_quota_limits_the_cores(proc: Path, sys: Path) -> None:
    processor(proc, sys, threads=16, threads_per_core=1)
    write(proc, {"self/cgroup": "0::/box"})
    write(sys, {"fs/cgroup/cgroup.controllers": "cpu memory", "fs/cgroup/box/cpu.max": "150000 100000"})
    cpu = find_cpu(proc, sys)
    assert cpu is not None
    assert (cpu.cores, cpu.cores_present) == (2, 16)


def test_a_version_1_quota_limits_the_cores(proc: Path, sys: Path) -> None:
    processor(proc, sys, threads=16, threads_per_core=1)
    write(proc, {"self/cgroup": "4:memory:/\n3:cpu,cpuacct:/box"})
    write(sys, {"fs/cgroup/cpu/box/cpu.cfs_quota_us": 400_000, "fs/cgroup/cpu/box/cpu.cfs_period_us": 100_000})
    cpu = find_cpu(proc, sys)
    assert cpu is not None
    assert cpu.cores == 4


def test_an_arm_processor_has_a_name_of_numbers(proc: Path, sys: Path) -> None:
    write(
        proc, {"cpuinfo": "processor\t: 0\nFeatures\t: fp asimd sve bf16\nCPU implementer\t: 0x41\nCPU part\t: 0xd40"}
    )
    cpu = find_cpu(proc, sys)
    assert cpu is not None
    assert (cpu.name, cpu.vendor) == ("Arm processor 0x41:0xd40", "arm")
    assert cpu.hertz is None
    assert "sve" in cpu.flags


def test_memory_without_a_container(proc: Path, sys: Path) -> None:
    memory(proc, 64 * 1024, 50 * 1024)
    found = find_memory(proc, sys)
    assert found is not None
    assert (found.total_bytes, found.available_bytes, found.limit_bytes) == (64 * GIB, 50 * GIB, None)


def test_a_version_2_limit_of_a_parent_counts(proc: Path, sys: Path) -> None:
    memory(proc, 64 * 1024, 50 * 1024)
    write(proc, {"self/cgroup": "0::/pod/box"})
    write(
        sys,
        {
            "fs/cgroup/cgroup.controllers": "memory",
            "fs/cgroup/pod/memory.max": 16 * GIB,
            "fs/cgroup/pod/memory.current": 6 * GIB,
            "fs/cgroup/pod/memory.stat": f"anon 1\ninactive_file {2 * GIB}\n",
            "fs/cgroup/pod/box/memory.max": "max",
            "fs/cgroup/pod/box/memory.current": GIB,
        },
    )
    found = find_memory(proc, sys)
    assert found is not None
    assert (found.total_bytes, found.available_bytes) == (16 * GIB, 12 * GIB)
    assert (found.limit_bytes, found.installed_bytes) == (16 * GIB, 64 * GIB)


def test_a_version_1_limit_where_version_2_is_mounted_beside_it(proc: Path, sys: Path) -> None:
    memory(proc, 64 * 1024, 50 * 1024)
    write(proc, {"self/cgroup": "4:memory:/box\n0::/"})
    write(
        sys,
        {
            "fs/cgroup/unified/cgroup.controllers": "",
            "fs/cgroup/memory/box/memory.limit_in_bytes": 8 * GIB,
            "fs/cgroup/memory/box/memory.usage_in_bytes": 3 * GIB,
            "fs/cgroup/memory/memory.limit_in_bytes": 9223372036854771712,
        },
    )
    found = find_memory(proc, sys)
    assert found is not None
    assert (found.total_bytes, found.available_bytes) == (8 * GIB, 5 * GIB)


def test_a_group_outside_our_view_falls_back_to_the_root(proc: Path, sys: Path) -> None:
    memory(proc, 64 * 1024, 50 * 1024)
    write(proc, {"self/cgroup": "0::/not/mounted/here"})
    write(sys, {"fs/cgroup/cgroup.controllers": "memory", "fs/cgroup/memory.max": 4 * GIB})
    found = find_memory(proc, sys)
    assert found is not None
    assert found.total_bytes == 4 * GIB


def test_a_limit_above_the_installed_memory_limits_nothing(proc: Path, sys: Path) -> None:
    memory(proc, 8 * 1024, 6 * 1024)
    write(proc, {"self/cgroup": "0::/"})
    write(sys, {"fs/cgroup/cgroup.controllers": "memory", "fs/cgroup/memory.max": 64 * GIB})
    found = find_memory(proc, sys)
    assert found is not None
    assert (found.total_bytes, found.limit_bytes) == (8 * GIB, None)


def test_a_path_that_climbs_out_of_the_tree_is_ignored(proc: Path, sys: Path) -> None:
    memory(proc, 8 * 1024, 6 * 1024)
    write(proc, {"self/cgroup": "0::/../../etc"})
    write(sys, {"fs/cgroup/cgroup.controllers": "memory"})
    found = find_memory(proc, sys)
    assert found is not None
    assert found.limit_bytes is None


@pytest.mark.parametrize("content", ["", "garbage", "MemTotal: lots", "processor\n\n\n:::"])
def test_garbage_is_nothing_found(proc: Path, sys: Path, content: str) -> None:
    write(proc, {"meminfo": content, "cpuinfo": content, "self/cgroup": content})
    assert find_memory(proc, sys) is None
    assert find_cpu(proc, sys) is None


def test_small_files_that_are_absent_or_odd(tmp_path: Path) -> None:
    write(tmp_path, {"hex": "0x1002", "text": "max"})
    assert read_int(tmp_path / "hex") == 0x1002
    assert read_int(tmp_path / "text") is None
    assert read_int(tmp_path / "absent") is None
    assert read_text(tmp_path) is None


T4 = {"name": "Tesla T4", "capability": (7, 5), "total": 15360 * MIB, "reserved": 448 * MIB, "used": 100 * MIB}


@pytest.mark.parametrize("driver", ["580.10", b"580.10"])
def test_nvidia_names_sizes_and_capability(driver: str | bytes) -> None:
    nvml = FakeNvml(T4, {**T4, "uuid": "GPU-1", "used": 0}, driver=driver)
    probe = probe_nvidia(nvml)
    first, second = probe.devices
    assert (first.name, first.architecture, first.driver, first.kind) == ("Tesla T4", "sm_75", "580.10", "gpu")
    assert (first.memory_total_bytes, first.reserved_bytes, first.used_bytes) == (15360 * MIB, 448 * MIB, 100 * MIB)
    assert second.uuid == "GPU-1"
    assert nvml.open == 0


def test_an_older_nvml_counts_the_reserve_as_used() -> None:
    (device,) = probe_nvidia(FakeNvml(T4, newer=False)).devices
    assert (device.reserved_bytes, device.used_bytes) == (None, 548 * MIB)


def test_nvidia_without_memory_of_its_own_shares_the_hosts() -> None:
    (device,) = probe_nvidia(FakeNvml({"name": "NVIDIA GB10", "capability": (12, 1)})).devices
    assert (device.kind, device.memory_total_bytes, device.architecture) == ("apu", None, "sm_121")


def test_a_broken_driver_is_a_reason() -> None:
    class Broken(FakeNvml):
        def nvmlDeviceGetCount(self) -> int:
            raise RuntimeError("Driver/library version mismatch")

    nvml = Broken(T4)
    assert "version mismatch" in (probe_nvidia(nvml).reason or "")
    assert nvml.open == 0
    assert "no device" in (probe_nvidia(FakeNvml()).reason or "")


def test_amd_exact_gfx_memory_and_name(sys: Path, tmp_path: Path) -> None:
    amd_card(sys, 0, "0x744c", "0xc8", vram=25753026560, used=512 * MIB, gtt=16 * GIB, gfx=110000)
    names = tmp_path / "amdgpu.ids"
    names.write_text("1.0.0\n744C,\tC8,\tAMD Radeon RX 7900 XTX\n744C,\tCC,\tAMD Radeon RX 7900 XT\n")
    (device,) = probe_amd(sys, names).devices
    assert (device.name, device.architecture, device.kind) == ("AMD Radeon RX 7900 XTX", "gfx1100", "gpu")
    assert (device.pci_id, device.memory_total_bytes, device.used_bytes) == ("1002:744c:c8", 25753026560, 512 * MIB)


@pytest.mark.parametrize(
    ("version", "gfx"),
    [(90010, "gfx90a"), (90402, "gfx942"), (90500, "gfx950"), (110501, "gfx1151"), (120001, "gfx1201")],
)
def test_kfd_versions_are_gfx_names(sys: Path, tmp_path: Path, version: int, gfx: str) -> None:
    amd_card(sys, 0, "0x1", "0x0", vram=GIB, gfx=version)
    (device,) = probe_amd(sys, tmp_path / "none").devices
    assert device.architecture == gfx


def test_cards_are_numbered_as_rocm_counts_kfd_nodes_by_number_and_know_their_address(
    sys: Path, tmp_path: Path
) -> None:
    for number in (2, 10):
        amd_card(sys, number, "0x744c", "0xc8", vram=GIB, gfx=110000)
        folder = sys / f"class/drm/card{number}/device"
        address = sys / f"devices/pci0000:00/0000:{number:02x}:00.0"
        address.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(address)
        folder.symlink_to(address)
    found = {device.address: device.index for device in probe_amd(sys, tmp_path / "none").devices}
    assert found == {"0000:02:00.0": 0, "0000:0a:00.0": 1}


def test_intel_discrete_by_xe_and_by_i915(sys: Path) -> None:
    for number, device in enumerate(("0xe20b", "0x56a0", "0xa780")):
        base = f"class/drm/card{number}/device"
        write(sys, {f"{base}/vendor": "0x8086", f"{base}/device": device, f"{base}/revision": "0x00"})
    write(sys, {"class/drm/card0/device/tile0/physical_vram_size_bytes": 12 * GIB})
    write(sys, {"class/drm/card1/lmem_total_bytes": 16 * GIB, "class/drm/card1/lmem_avail_bytes": 15 * GIB})
    xe, i915, integrated = probe_intel(sys).devices
    assert (xe.kind, xe.memory_total_bytes, xe.used_bytes) == ("gpu", 12 * GIB, None)
    assert (i915.memory_total_bytes, i915.used_bytes) == (16 * GIB, GIB)
    assert (integrated.kind, integrated.memory_total_bytes) == ("apu", None)
    assert [device.index for device in (xe, i915, integrated)] == [0, 1, 2]


def test_no_cards_is_a_reason(sys: Path) -> None:
    assert probe_amd(sys).reason == "no AMD card under /sys/class/drm"
    assert probe_intel(sys).reason == "no Intel card under /sys/class/drm"


def sysctl_of(values: dict[str, str | int]) -> object:
    def read(name: str) -> bytes | None:
        value = values.get(name)
        if value is None:
            return None
        return value.encode() + b"\x00" if isinstance(value, str) else value.to_bytes(8, "little")

    return read


def test_an_apple_chip_by_sysctl() -> None:
    mac = find_mac(
        sysctl_of(  # pyright: ignore[reportArgumentType]
            {
                "machdep.cpu.brand_string": "Apple M4 Max",
                "hw.memsize": 64 * GIB,
                "hw.physicalcpu": 16,
                "hw.logicalcpu": 16,
                "kern.osproductversion": "26.1",
                "hw.optional.arm.FEAT_BF16": 1,
                "iogpu.wired_limit_mb": 57344,
            }
        )
    )
    assert mac is not None
    assert (mac.cpu.name, mac.cpu.cores, mac.macos_major) == ("Apple M4 Max", 16, 26)
    assert mac.cpu.flags == ("asimd", "bf16")
    assert mac.gpu is not None
    assert mac.gpu.shared_limit_bytes == 57344 * MIB


def test_an_intel_mac_has_no_gpu_to_train_on() -> None:
    mac = find_mac(
        sysctl_of(  # pyright: ignore[reportArgumentType]
            {"machdep.cpu.brand_string": "Intel(R) Core(TM) i9", "hw.memsize": GIB, "hw.optional.avx2_0": 1}
        )
    )
    assert mac is not None
    assert (mac.gpu, mac.cpu.flags, mac.macos_major) == (None, ("avx2",), None)
    assert find_mac(sysctl_of({})) is None  # pyright: ignore[reportArgumentType]


def test_a_windows_processor() -> None:
    found = find_windows_cpu(
        Processor("AMD Ryzen 9 7950X 16-Core Processor   ", 4491), 16, 32, lambda number: number <= 41
    )
    assert (found.name, found.vendor, found.hertz) == ("AMD Ryzen 9 7950X 16-Core Processor", "amd", 4_491_000_000)
    assert {"avx2", "fma", "avx512f"} <= set(found.flags)
