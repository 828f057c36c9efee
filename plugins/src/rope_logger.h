// One way to say what is wrong: TensorRT's own logger, or standard error where there is none.
#ifndef ROPE_LOGGER_H
#define ROPE_LOGGER_H

namespace rope {

// `finder` is the ILoggerFinder of the library that contains the address `caller`.
void set_logger_finder(void* finder, void const* caller) noexcept;

void log_error(char const* format, ...) noexcept __attribute__((format(printf, 1, 2)));

}  // namespace rope

#endif  // ROPE_LOGGER_H
