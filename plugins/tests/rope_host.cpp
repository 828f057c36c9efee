// The kernel on the CPU: the same plan and the same thread code, with loops for the grid and for the lanes.
#include <cstdlib>

#include "entries.h"

#include "../src/rope_math.h"

namespace {

template <typename W>
void run(const rope::Plan& plan) {
    for (std::uint32_t item = 0; item < plan.items; ++item) {
        const rope::Place place = rope::place_of<W>(plan, item);
        const rope::Positions at = rope::positions_of(plan, place);
        float rms[W::G] = {};
        if constexpr (W::kNorm) {
            for (std::uint32_t lane = 0; lane < plan.lanes; ++lane) {
                float part[W::G];
                rope::sum_squares<W>(plan, place, lane, part);
                for (int g = 0; g < W::G; ++g) rms[g] += part[g];
            }
            for (float& sum : rms)
                sum = 1.0F / std::sqrt(sum / static_cast<float>(plan.p.head_dim) + plan.p.norm_eps);
        }
        for (std::uint32_t lane = 0; lane < plan.lanes; ++lane) rope::rotate<W>(plan, place, at, lane, rms);
    }
}

}  // namespace

extern "C" {

const char* rope_launch(const rope::Parameters* parameters, void*) {
    rope::Plan plan;
    if (const char* found = rope::make_plan(*parameters, plan)) return found;
    if (plan.items > 0) rope::dispatch(plan, [&](auto variant) { run<decltype(variant)>(plan); });
    return nullptr;
}

// With a page of zeros before and behind: a kernel with a planted fault may reach there.
constexpr std::int64_t kSlack = 4096;

void* rope_allocate(std::int64_t bytes) {
    const std::int64_t all = (bytes + 2 * kSlack) / 256 * 256 + 256;
    auto* const block = static_cast<char*>(std::aligned_alloc(256, all));
    if (block == nullptr) return nullptr;
    std::memset(block, 0, all);
    return block + kSlack;
}

void rope_free(void* block) { std::free(static_cast<char*>(block) - kSlack); }

const char* rope_copy(void* to, const void* from, std::int64_t bytes) {
    std::memcpy(to, from, bytes);
    return nullptr;
}

}  // extern "C"
