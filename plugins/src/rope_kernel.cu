// The kernel and its launch. What a thread does is in rope_math.h, how work is cut up in rope_plan.h.
#include "../include/rope_kernel.h"

#include <cuda_runtime.h>

#include "rope_math.h"
#include "rope_plan.h"

namespace rope {
namespace {

// Threads of a block: x, the lanes of an item; y, items.
template <typename W>
__global__ void __launch_bounds__(kThreads) rope_kernel(const __grid_constant__ Plan plan) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    // Both do nothing unless a launch asked to overlap: let the successor be scheduled, wait for the predecessor.
    cudaTriggerProgrammaticLaunchCompletion();
    cudaGridDependencySynchronize();
#endif
    const std::uint32_t item = blockIdx.x * blockDim.y + threadIdx.y;
    const bool live = item < plan.items;
    if (!W::kNorm && !live) return;  // with a norm, all threads take part in the shuffles
    const Place place = place_of<W>(plan, live ? item : 0);
    const Positions at = positions_of(plan, place);

    float rms[W::G] = {};
    if constexpr (W::kNorm) {
        sum_squares<W>(plan, place, threadIdx.x, rms);
        for (int g = 0; g < W::G; ++g) {
            for (std::uint32_t other = plan.lanes / 2; other > 0; other /= 2)
                rms[g] += __shfl_xor_sync(~0U, rms[g], other);
            rms[g] = rsqrtf(rms[g] / static_cast<float>(plan.p.head_dim) + plan.p.norm_eps);
        }
    }
    if (live) rotate<W>(plan, place, at, threadIdx.x, rms);
}

// Whether the GPU knows programmatic dependent launch; older ones refuse a launch that asks for it.
bool can_start_early() {
    int device = 0, major = 0;
    return cudaGetDevice(&device) == cudaSuccess &&
           cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess && major >= 9;
}

// Rows of the block are whole items. Where there is a norm these fill whole warps, since lanes is a power of two.
const char* enqueue(void (*kernel)(Plan), const Plan& plan, cudaStream_t stream) {
    const std::uint32_t y = kThreads / plan.lanes;
    cudaLaunchAttribute overlap{};
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.blockDim = dim3(plan.lanes, y);
    config.gridDim = dim3((plan.items - 1) / y + 1);
    config.stream = stream;
    config.attrs = &overlap;
    config.numAttrs = plan.p.early_start && can_start_early() ? 1 : 0;
    const cudaError_t code = cudaLaunchKernelEx(&config, kernel, plan);
    if (code == cudaSuccess) return nullptr;
    cudaGetLastError();  // it is told here; whoever asks CUDA next shall not take it for their own
    return cudaGetErrorString(code);
}

}  // namespace

const char* launch(const Parameters& parameters, cudaStream_t stream) noexcept {
    Plan plan;
    if (const char* found = make_plan(parameters, plan)) return found;
    if (plan.items == 0) return nullptr;
    return dispatch(plan, [&](auto variant) { return enqueue(rope_kernel<decltype(variant)>, plan, stream); });
}

}  // namespace rope
