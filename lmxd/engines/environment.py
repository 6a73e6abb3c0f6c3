"""The environment of an engine: what it inherits, what ``engine.environment`` may set, and what is never passed on."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from typing import Final

_OF_EVERY_PROGRAM: Final = frozenset(
    "PATH HOME LANG LC_ALL LC_CTYPE TZ TMPDIR LD_LIBRARY_PATH XDG_CACHE_HOME XDG_DATA_DIRS".split()
)
OF_GPUS: Final = frozenset(
    """CUDA_CACHE_PATH CUDA_HOME CUDA_PATH GGML_CUDA_DISABLE_GRAPHS GGML_CUDA_GRAPH_OPT
    HSA_OVERRIDE_GFX_VERSION HSA_ENABLE_SDMA HSA_XNACK ROCM_PATH HIP_PATH ROCBLAS_USE_HIPBLASLT GPU_MAX_HW_QUEUES
    VK_DRIVER_FILES VK_ICD_FILENAMES VK_ADD_DRIVER_FILES VK_LOADER_DRIVERS_SELECT VK_LOADER_DRIVERS_DISABLE
    AMD_VULKAN_ICD RADV_PERFTEST RADV_DEBUG ANV_DEBUG INTEL_DEBUG MESA_SHADER_CACHE_DIR MESA_SHADER_CACHE_DISABLE
    MESA_SHADER_CACHE_MAX_SIZE MESA_VK_DEVICE_SELECT NODEVICE_SELECT LP_NUM_THREADS __NV_PRIME_RENDER_OFFLOAD
    GGML_VK_DISABLE_COOPMAT GGML_VK_DISABLE_COOPMAT2 GGML_VK_DISABLE_F16 GGML_VK_DISABLE_BFLOAT16
    GGML_VK_DISABLE_INTEGER_DOT_PRODUCT GGML_VK_DISABLE_FUSION GGML_VK_DISABLE_GRAPH_OPTIMIZE GGML_VK_DISABLE_ASYNC
    GGML_VK_DISABLE_MMVQ GGML_VK_DISABLE_HOST_VISIBLE_VIDMEM GGML_VK_FORCE_MMVQ GGML_VK_ALLOW_GRAPHICS_QUEUE
    GGML_VK_ASYNC_USE_TRANSFER_QUEUE GGML_VK_ENABLE_MEMORY_PRIORITY GGML_VK_MAX_NODES_PER_SUBMIT
    GGML_VK_SERIALIZE_SUBMISSIONS GGML_VK_FORCE_MAX_ALLOCATION_SIZE GGML_VK_FORCE_MAX_BUFFER_SIZE
    ZES_ENABLE_SYSMAN ZE_FLAT_DEVICE_HIERARCHY ONEAPI_ROOT CMPLR_ROOT MKLROOT SYCL_CACHE_PERSISTENT SYCL_CACHE_DIR
    UR_L0_ENABLE_RELAXED_ALLOCATION_LIMITS UR_L0_USE_IMMEDIATE_COMMANDLISTS UR_L0_V2_FORCE_DISABLE_COPY_OFFLOAD
    SYCL_PI_LEVEL_ZERO_USE_IMMEDIATE_COMMANDLISTS GGML_SYCL_DISABLE_OPT GGML_SYCL_DISABLE_GRAPH
    GGML_SYCL_DISABLE_DNN
    NCCL_P2P_DISABLE NCCL_P2P_LEVEL NCCL_SHM_DISABLE NCCL_IB_DISABLE NCCL_NVLS_ENABLE NCCL_CUMEM_ENABLE NCCL_DEBUG
    NCCL_SOCKET_IFNAME GLOO_SOCKET_IFNAME NVSHMEM_DISABLE_NVLS TORCH_SYMM_MEM_DISABLE_MULTICAST
    VLLM_ALLREDUCE_USE_SYMM_MEM VLLM_SKIP_P2P_CHECK VLLM_CACHE_ROOT TORCHINDUCTOR_CACHE_DIR TRITON_CACHE_DIR CC
    CXX""".split()
)
"""Variables that users of GPUs need for their cards to work, alone or together, or to work well. None changes what a
model takes by more than is learned of its kind."""
_OF_ONE_CARD: Final = re.compile("HSA_OVERRIDE_GFX_VERSION_[0-9]{1,2}", re.ASCII)
"""The same for one card of several, by its number among the driver's nodes."""
_OF_THREADS: Final = frozenset(("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"))
"""How threads of OpenMP wait for each other: busily, by default, which takes the processor from every engine beside."""
_ALLOWED: Final = _OF_EVERY_PROGRAM | OF_GPUS | _OF_THREADS

_REFUSED: Final[dict[str, str]] = {
    name: why
    for why, names in {
        "lmxd sets it, for the card that was admitted": """CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER HIP_VISIBLE_DEVICES
            ROCR_VISIBLE_DEVICES GGML_VK_VISIBLE_DEVICES GGML_DISABLE_VULKAN ONEAPI_DEVICE_SELECTOR ZE_AFFINITY_MASK
            GPU_DEVICE_ORDINAL""",
        "it moves bytes to where they were not admitted": """GGML_CUDA_ENABLE_UNIFIED_MEMORY GGML_VK_PREFER_HOST_MEMORY
            GGML_VK_ALLOW_SYSMEM_FALLBACK GGML_CUDA_NO_PINNED GGML_SYCL_NO_PINNED""",
        "it loads other code into the engine": """LD_PRELOAD LD_AUDIT GGML_BACKEND_PATH VK_LAYER_PATH VK_ADD_LAYER_PATH
            VK_INSTANCE_LAYERS VK_LOADER_LAYERS_ENABLE HSA_TOOLS_LIB PYTHONPATH""",
    }.items()
    for name in names.split()
}


def environment(own: Mapping[str, str] | None = None) -> dict[str, str]:
    """All that an engine inherits, and ``own``. Anything else could change what was admitted, as LLAMA_ARG_* can."""
    inherited = {name: value for name, value in os.environ.items() if name in _ALLOWED or _OF_ONE_CARD.fullmatch(name)}
    return inherited | dict(own or {})


def problem(name: str, value: str) -> str | None:
    """The reason why a variable may not be set for engines; None if it may."""
    if name in _ALLOWED or _OF_ONE_CARD.fullmatch(name):
        return None if is_passable(value) else f"{name} has a character that no variable can have"
    if name in _REFUSED:
        return f"{name} is refused: {_REFUSED[name]}"
    near = difflib.get_close_matches(name, _ALLOWED, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ", such as HSA_OVERRIDE_GFX_VERSION or VK_DRIVER_FILES"
    return f"{name!r} is not a variable that engines may be given{hint}"


def is_passable(text: str) -> bool:
    """Returns whether a program can be given a text, as a word or in its environment: there is an end at NUL."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False
