"""What the tools print. lscpu, free and df of a virtual machine; the others in the form of their documentation."""

HOST = """\
Architecture:                            x86_64
CPU(s):                                  2
Vendor ID:                               AuthenticAMD
Model name:                              AMD EPYC
CPU family:                              26
Thread(s) per core:                      1
Core(s) per socket:                      2
Socket(s):                               1
BogoMIPS:                                5192.20
Flags:                                   fpu sse sse2 fma avx avx2 avx512f avx512dq avx512_bf16 avx512_vnni
               total        used        free      shared  buff/cache   available
Mem:     25276510208  3007029248 20786688000    97497088  1991303168 22269480960
Swap:              0           0           0
      Avail
82737709056
"""

NVIDIA = """\
NVIDIA GeForce RTX 4090, 24564 MiB, 1021 MiB
NVIDIA GeForce RTX 4090, 24564 MiB, 12 MiB
bash: rocm-smi: command not found
"""

NVIDIA_LISTED = "GPU 0: NVIDIA GeForce RTX 4090 (UUID: GPU-8a5b0f2e-6c1e-1f5d-9a5e-0f7f7b0b6a11)\n"

ROCM = """\

============================ ROCm System Management Interface ============================
================================== Memory Usage (Bytes) ==================================
GPU[0]\t\t: VRAM Total Memory (B): 25753026560
GPU[0]\t\t: VRAM Total Used Memory (B): 28020736
==========================================================================================
====================================== Product Info ======================================
GPU[0]\t\t: Card Series: \t\tRadeon RX 7900 XTX
GPU[0]\t\t: Card Model: \t\t0x744c
GPU[0]\t\t: Card Vendor: \t\tAdvanced Micro Devices, Inc. [AMD/ATI]
GPU[0]\t\t: Card SKU: \t\tEXT94393
GPU[0]\t\t: Subsystem ID: \t0xe471
GPU[0]\t\t: Device Rev: \t\t0xc8
GPU[0]\t\t: Node ID: \t\t1
GPU[0]\t\t: GUID: \t\t48690
GPU[0]\t\t: GFX Version: \t\tgfx1100
==========================================================================================
================================== End of ROCm SMI Log ===================================
"""

AMD_SMI = """\
GPU: 0
    ASIC:
        MARKET_NAME: AMD Instinct MI300X
        VENDOR_ID: 0x1002
        VENDOR_NAME: Advanced Micro Devices Inc. [AMD/ATI]
        SUBVENDOR_ID: 0x1002
        DEVICE_ID: 0x74a1
        SUBSYSTEM_ID: 0x74a1
        REV_ID: 0x00
        ASIC_SERIAL: 0x7A9B5C2F0D1E3A4B
        OAM_ID: 2
        NUM_COMPUTE_UNITS: 304
        TARGET_GRAPHICS_VERSION: gfx942
    VRAM:
        TYPE: HBM
        VENDOR: N/A
        SIZE: 196592 MB
        BIT_WIDTH: 8192
"""

MAC = """\
Hardware:

    Hardware Overview:

      Model Name: MacBook Pro
      Model Identifier: Mac14,5
      Chip: Apple M2 Max
      Total Number of Cores: 12 (8 performance and 4 efficiency)
      Memory: 64 GB
      System Firmware Version: 10151.140.19
      Serial Number (system): X0X0X0X0X0

Graphics/Displays:

    Apple M2 Max:

      Chipset Model: Apple M2 Max
      Type: GPU
      Bus: Built-In
      Total Number of Cores: 38
      Vendor: Apple (0x106b)
      Metal Support: Metal 3

ProductName:\t\tmacOS
ProductVersion:\t\t14.5
BuildVersion:\t\t23F79
Filesystem   1024-blocks      Used Available Capacity iused      ifree %iused  Mounted on
/dev/disk3s5   971350180 412309944 532000000    44% 4283915 5320000000    0%   /System/Volumes/Data
"""
