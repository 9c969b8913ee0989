# SPDX-License-Identifier: BSD-3-Clause
# hoft::cuda, for sources compiled by nvcc, wherever CUDA's toolkit is found. Read by the project and by its package.
find_package(CUDAToolkit 12.4 QUIET)
if(CUDAToolkit_FOUND AND TARGET CUDA::cublas AND NOT TARGET hoft::cuda)
  add_library(hoft_cuda INTERFACE)
  add_library(hoft::cuda ALIAS hoft_cuda)
  # The headers alone: nothing of hoft::hoft's is needed but the place where they are.
  target_include_directories(hoft_cuda INTERFACE $<TARGET_PROPERTY:hoft::hoft,INTERFACE_INCLUDE_DIRECTORIES>)
  target_compile_options(hoft_cuda INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:--extended-lambda
                                             --expt-relaxed-constexpr>
                         # C++20, unless the target says which: CMake 3.25 knows of no cuda_std_20.
                         $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<NOT:$<BOOL:$<TARGET_PROPERTY:CUDA_STANDARD>>>>:-std=c++20>)
  target_link_libraries(hoft_cuda INTERFACE CUDA::cudart CUDA::cublas)
endif()
