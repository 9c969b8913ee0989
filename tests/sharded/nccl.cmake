# SPDX-License-Identifier: BSD-3-Clause
# nccl_ranks, where there is NCCL: on GPUs, or with an emulated one for each rank; read by the CMakeLists.txt of the
# folder above.
find_path(HOFT_NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
find_library(HOFT_NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
mark_as_advanced(HOFT_NCCL_INCLUDE_DIR HOFT_NCCL_LIBRARY)
if(NOT HOFT_NCCL_INCLUDE_DIR OR NOT HOFT_NCCL_LIBRARY)
  message(STATUS "No NCCL: sharded problems are not tested over it")
  return()
endif()

add_executable(nccl_ranks sharded/nccl_ranks.cu cuda/device.cu)
target_compile_features(nccl_ranks PRIVATE cxx_std_20)
target_include_directories(nccl_ranks PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
target_include_directories(nccl_ranks SYSTEM PRIVATE "${HOFT_NCCL_INCLUDE_DIR}")
# 20012: what Eigen's headers say of defaulted functions; 20208: judges in long double, which are the host's.
target_compile_options(nccl_ranks PRIVATE "-diag-suppress;20012,20208;-Xcompiler=-Wall,-Wextra" ${cuda_test_options}
                                          "$<$<BOOL:${HOFT_WERROR}>:-Werror=all-warnings>")
target_link_libraries(nccl_ranks PRIVATE hoft_test_compiled hoft::hoft hoft::cuda doctest::doctest "${HOFT_NCCL_LIBRARY}")
set(nccl_launcher)
if(emulated)
  set(nccl_launcher bash "${CMAKE_CURRENT_SOURCE_DIR}/ptx/run.sh" "${ptxemu_libraries}")
  add_dependencies(nccl_ranks ptxemu_cublas ptxemu_nccl)
endif()
foreach(ranks IN ITEMS 1 2 3 5)
  add_test(NAME nccl_ranks_${ranks} COMMAND ${nccl_launcher} $<TARGET_FILE:nccl_ranks> ${ranks})
  set_tests_properties(nccl_ranks_${ranks} PROPERTIES LABELS cuda TIMEOUT 600 PROCESSORS 2 SKIP_RETURN_CODE 77
                                                      PASS_REGULAR_EXPRESSION "(^|\n)${ranks} ranks agree")
endforeach()
if(emulated)
  add_test(NAME nccl_ranks_differ COMMAND ${nccl_launcher} $<TARGET_FILE:nccl_ranks> 2 differs)
  set_tests_properties(nccl_ranks_differ PROPERTIES LABELS cuda TIMEOUT 120 PASS_REGULAR_EXPRESSION
                                                    "ptxemu: nccl: rank [01]: ncclAllGather of [0-9]+ bytes, and rank")
  add_test(NAME nccl_ranks_nothing COMMAND ${nccl_launcher} $<TARGET_FILE:nccl_ranks> 2 nothing)
  set_tests_properties(nccl_ranks_nothing PROPERTIES LABELS cuda TIMEOUT 120 PASS_REGULAR_EXPRESSION "(^|\n)2 ranks agree")
endif()
