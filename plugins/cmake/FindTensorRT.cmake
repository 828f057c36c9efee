# TensorRT's headers, which is all that a plugin needs: TensorRT_INCLUDE_DIR, TensorRT_VERSION.
#
# Looked for in this order:
#   1. TENSORRT_ROOT, a CMake or an environment variable: an unpacked TensorRT package, or the folder of NvInfer.h
#   2. the system, where Debian's libnvinfer-headers-dev and the tar archives put them
#   3. a Python package: TensorRT's own wheels have no headers, but kernel-lens carries those of 10.14 and nothing else
#      that is needed here:  pip install --no-deps kernel-lens

set(_places "")
foreach(_root IN ITEMS "${TENSORRT_ROOT}" "$ENV{TENSORRT_ROOT}")
    if(_root)
        list(APPEND _places "${_root}/include" "${_root}")
    endif()
endforeach()
if(_places)
    # Whoever names a place means it: nothing found there is an error, not a reason to take another version.
    find_path(TensorRT_INCLUDE_DIR NvInfer.h PATHS ${_places} NO_DEFAULT_PATH)
else()
    find_path(TensorRT_INCLUDE_DIR NvInfer.h PATHS /usr/local/tensorrt/include /opt/tensorrt/include)
    if(NOT TensorRT_INCLUDE_DIR)
        find_package(Python3 QUIET COMPONENTS Interpreter)
        if(Python3_FOUND)
            execute_process(
                COMMAND "${Python3_EXECUTABLE}" -c
                    "import importlib.util as u; print(u.find_spec('kernel_lens').submodule_search_locations[0])"
                OUTPUT_VARIABLE _package OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
            find_path(TensorRT_INCLUDE_DIR NvInfer.h PATHS "${_package}/include/tensorrt" NO_DEFAULT_PATH)
        endif()
    endif()
endif()
mark_as_advanced(TensorRT_INCLUDE_DIR)

if(TensorRT_INCLUDE_DIR)
    # 10.x writes NV_TENSORRT_MAJOR as a number, then as another macro, TRT_MAJOR_ENTERPRISE, which is one.
    set(TensorRT_VERSION "")
    foreach(_part IN ITEMS MAJOR MINOR PATCH)
        file(STRINGS "${TensorRT_INCLUDE_DIR}/NvInferVersion.h" _line
            REGEX "#define (NV_TENSORRT_${_part}|TRT_${_part}_ENTERPRISE) +[0-9]+")
        string(REGEX MATCH " [0-9]+" _number "${_line}")
        string(STRIP "${_number}" _number)
        list(APPEND TensorRT_VERSION "${_number}")
    endforeach()
    string(REPLACE ";" "." TensorRT_VERSION "${TensorRT_VERSION}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(TensorRT
    REQUIRED_VARS TensorRT_INCLUDE_DIR
    VERSION_VAR TensorRT_VERSION
    REASON_FAILURE_MESSAGE
        "Give -DTENSORRT_ROOT=..., or run: pip install --no-deps kernel-lens (headers of 10.14, fine for 10.x and 11.x)")
