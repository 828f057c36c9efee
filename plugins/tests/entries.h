// What tests and benchmarks call through ctypes, the same for the GPU and for the CPU.
#ifndef ROPE_TESTS_ENTRIES_H
#define ROPE_TESTS_ENTRIES_H

#include <iterator>

#include "../src/rope_plan.h"

extern "C" {

// So that a mirror of the structure in another language can be checked.
std::int64_t rope_size_of_parameters() { return sizeof(rope::Parameters); }

std::uint64_t rope_turn_step(double inv_freq) { return rope::turn_step(inv_freq); }

// How the work is cut up: elements an access, heads a thread, threads an item, items, the plain variant or not.
const char* rope_plan(const rope::Parameters* parameters, std::int64_t* numbers) {
    rope::Plan plan;
    const char* const found = rope::make_plan(*parameters, plan);
    const std::int64_t all[] = {plan.vector, plan.heads_per_thread, plan.lanes, plan.items, plan.plain};
    std::copy(std::begin(all), std::end(all), numbers);
    return found;
}

}  // extern "C"

#endif  // ROPE_TESTS_ENTRIES_H
