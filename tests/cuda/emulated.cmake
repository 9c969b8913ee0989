# SPDX-License-Identifier: BSD-3-Clause
# cuda_device_test on the emulator, every check on; read by the CMakeLists.txt of the folder above. A finding fails a
# test: the program then ends with 86.

# With 132 processors each cluster has one task at the sizes of these tests, and loops over tasks turn once. With 8 there
# is one cluster at a time, with 4 there are no clusters.
set(order_forward "PTXEMU_SCHEDULE=forward")
set(order_reverse "PTXEMU_SCHEDULE=reverse")
set(order_random "PTXEMU_SCHEDULE=random:7;PTXEMU_MMA=truncate")
set(order_8_processors "PTXEMU_SCHEDULE=random:11;PTXEMU_PROCESSORS=8")
set(order_4_processors "PTXEMU_SCHEDULE=reverse;PTXEMU_PROCESSORS=4")

# emulated_test(<name> <order> <about how many seconds> [<option of doctest>...])
function(emulated_test name order seconds)
  add_test(NAME cuda_device_test_${name}
           COMMAND bash "${CMAKE_CURRENT_SOURCE_DIR}/ptx/run.sh" "${ptxemu_libraries}" $<TARGET_FILE:cuda_device_test>
                   --no-skipped-summary ${ARGN})
  set_tests_properties(
    cuda_device_test_${name}
    PROPERTIES LABELS cuda
               COST ${seconds} # the longest begin first
               TIMEOUT 3600
               ENVIRONMENT "HOFT_REQUIRE_GPU=1;${order_${order}}"
               FAIL_REGULAR_EXPRESSION "test cases: +0 ") # no name of a case is like the filter's any more
endfunction()

if(HOFT_TEST_CUDA_ALL)
  foreach(order IN ITEMS forward reverse random 8_processors 4_processors)
    emulated_test(${order} ${order} 300)
  endforeach()
  return()
endif()

# Every case runs in one order at least: forward what is not of the others alone. What depends most on orders runs in
# several, and what loops over tasks with few processors.
set(kernels "apply*,columns of*,gradients of*,the same bits*")
set(of_others "clusters*,HOFT and SHOFT*half*,HOFT and SHOFT*bfloat16*,training*bfloat16>")
emulated_test(forward forward 40 "--test-case-exclude=${kernels},${of_others}")
emulated_test(forward_kernels forward 22 "--test-case=${kernels}")
emulated_test(
  reverse reverse 39
  "--test-case=clusters*<float>,apply and accumulate*,apply_backward*half>,columns of*,training*<float>,a graph*,two streams*")
emulated_test(random random 43
              "--test-case=HOFT and SHOFT*half*,apply_backward*<float>,parts of*,every call*,a batch*,two streams*")
emulated_test(8_processors 8_processors 36
              "--test-case=a batch*,clusters*half>,HOFT and SHOFT*bfloat16*,training*bfloat16>,apply*column*half>")
emulated_test(4_processors 4_processors 17
              "--test-case=HOFT and SHOFT*pair<float*,apply and accumulate*,apply_backward*half>")
