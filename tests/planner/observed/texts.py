# ruff: noqa: E501  (lines as the tools print them)
"""Texts as the tools print them. The summary is torch 2.13's own, of made-up statistics."""

NVIDIA_SMI = """\
Tue Nov 24 11:31:52 2026
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 560.35.03              Driver Version: 560.35.03      CUDA Version: 12.6     |
|-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |
|                                         |                        |               MIG M. |
|=========================================+========================+======================|
|   0  NVIDIA GeForce RTX 4090        Off |   00000000:01:00.0  On |                  Off |
| 56%   67C    P2            412W /  450W |   17731MiB /  24564MiB |     99%      Default |
|                                         |                        |                  N/A |
+-----------------------------------------+------------------------+----------------------+

+-----------------------------------------------------------------------------------------+
| Processes:                                                                              |
|  GPU   GI   CI        PID   Type   Process name                              GPU Memory |
|        ID   ID                                                               Usage      |
|=========================================================================================|
|    0   N/A  N/A      1734      G   /usr/lib/xorg/Xorg                            455MiB |
|    0   N/A  N/A      2101      G   /usr/bin/gnome-shell                          112MiB |
|    0   N/A  N/A     48211      C   python3                                     17120MiB |
+-----------------------------------------------------------------------------------------+
"""

SUMMARY = """\
|===========================================================================|
|                  PyTorch CUDA memory summary, device ID 0                 |
|---------------------------------------------------------------------------|
|            CUDA OOMs: 0            |        cudaMalloc retries: 2         |
|===========================================================================|
|        Metric         | Cur Usage  | Peak Usage | Tot Alloc  | Tot Freed  |
|---------------------------------------------------------------------------|
| Allocated memory      |   9318 MiB |  18841 MiB | 753664 MiB | 744345 MiB |
|       from large pool |   9132 MiB |  18464 MiB | 738590 MiB | 729458 MiB |
|       from small pool |    186 MiB |    376 MiB |  15073 MiB |  14886 MiB |
|---------------------------------------------------------------------------|
| Active memory         |   9318 MiB |  18944 MiB | 757760 MiB | 748441 MiB |
|       from large pool |   9132 MiB |  18565 MiB | 742604 MiB | 733472 MiB |
|       from small pool |    186 MiB |    378 MiB |  15155 MiB |  14968 MiB |
|---------------------------------------------------------------------------|
| Requested memory      |   9216 MiB |  18739 MiB | 749568 MiB | 740352 MiB |
|       from large pool |   9031 MiB |  18364 MiB | 734576 MiB | 725544 MiB |
|       from small pool |    184 MiB |    374 MiB |  14991 MiB |  14807 MiB |
|---------------------------------------------------------------------------|
| GPU reserved memory   |  21401 MiB |  21401 MiB |    836 GiB |    815 GiB |
|       from large pool |  20973 MiB |  20973 MiB |    819 GiB |    798 GiB |
|       from small pool |    428 MiB |    428 MiB |     16 GiB |     16 GiB |
|---------------------------------------------------------------------------|
| Non-releasable memory |   2048 MiB |   3072 MiB | 122880 MiB | 120832 MiB |
|       from large pool |   2007 MiB |   3010 MiB | 120422 MiB | 118415 MiB |
|       from small pool |     40 MiB |     61 MiB |   2457 MiB |   2416 MiB |
|---------------------------------------------------------------------------|
| Allocations           |     900    |    1500    |   60000    |   59100    |
|       from large pool |     882    |    1470    |   58800    |   57918    |
|       from small pool |      18    |      30    |    1200    |    1182    |
|---------------------------------------------------------------------------|
| Active allocs         |     900    |    1500    |   60000    |   59100    |
|       from large pool |     882    |    1470    |   58800    |   57918    |
|       from small pool |      18    |      30    |    1200    |    1182    |
|---------------------------------------------------------------------------|
| GPU reserved segments |      90    |      90    |    3600    |    3510    |
|       from large pool |      88    |      88    |    3528    |    3439    |
|       from small pool |       1    |       1    |      72    |      70    |
|---------------------------------------------------------------------------|
| Non-releasable allocs |      20    |      40    |    1600    |    1580    |
|       from large pool |      19    |      39    |    1568    |    1548    |
|       from small pool |       0    |       0    |      32    |      31    |
|---------------------------------------------------------------------------|
| Oversize allocations  |       0    |       0    |       0    |       0    |
|---------------------------------------------------------------------------|
| Oversize GPU segments |       0    |       0    |       0    |       0    |
|===========================================================================|
"""

OUT_OF_MEMORY = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB of "
    "which 1.20 GiB is free. Process 1734 has 455.00 MiB memory in use. Including non-PyTorch memory, this process has "
    "21.98 GiB memory in use. Of the allocated memory 20.11 GiB is allocated by PyTorch, and 1.40 GiB is reserved by "
    "PyTorch but unallocated. If reserved but unallocated memory is large try setting "
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)

OLD_OUT_OF_MEMORY = (
    "RuntimeError: CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 15.90 GiB total capacity; 14.75 GiB already "
    "allocated; 8.75 MiB free; 15.02 GiB reserved in total by PyTorch)"
)

AXOLOTL = """\
{'loss': 1.2034, 'grad_norm': 0.52, 'learning_rate': 0.0002, 'memory/max_mem_active(gib)': 14.21, 'memory/device_mem_reserved(gib)': 15.3}
 12%|#2        | 62/500 [01:20<09:25,  1.29s/it]
"""

TORCHTITAN = (
    "[rank0]:[titan] - step: 10  loss:  8.0261  memory: 47.21GiB(59.65%)  tps: 5,762  tflops: 333.66  mfu: 33.74%"
)

TRAINER = (
    "{'train_runtime': 412.9, 'train_samples_per_second': 3.1, 'train_steps_per_second': 0.388, 'train_loss': 1.1}"
)

UNSLOTH = "Peak reserved memory = 14.605 GB.\nPeak reserved memory for training = 4.853 GB."

LITGPT = "Memory used: 21.30 GB"

TORCHTUNE = "Step 10 | loss:1.1 lr:0.0003 tokens_per_second_per_gpu:3083.2 peak_memory_active:16.2 peak_memory_alloc:16.1 peak_memory_reserved:17.4"
