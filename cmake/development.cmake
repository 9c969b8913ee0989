# SPDX-License-Identifier: BSD-3-Clause
# How hoft's own binaries are compiled. Linked PRIVATE by each of them, never exported: a user's warnings and machine
# flags are the user's.
set(CMAKE_CXX_EXTENSIONS OFF)

add_library(hoft_development INTERFACE)
target_compile_options(
  hoft_development
  INTERFACE -Wall
            -Wextra
            -Wpedantic
            -Wconversion
            -Wshadow
            -Wcast-qual
            -Wundef
            -Wextra-semi
            -Wnon-virtual-dtor
            -Woverloaded-virtual
            # g++'s -Wconversion leaves signedness out, clang's does not: the same warnings from both.
            -Wno-sign-conversion
            $<$<BOOL:${HOFT_WERROR}>:-Werror>
            $<$<BOOL:${HOFT_NATIVE}>:-march=native>)

# g++ looks for garbage whenever its memory has doubled: a tenth of the time to compile the tests, most of which end
# before there are 768 MiB. scripts/jobs.sh reckons with 2 GiB for each compiler.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(hoft_development INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:--param=ggc-min-heapsize=786432>")
endif()

# g++ 12 finds its own AVX-512 intrinsics uninitialised wherever Eigen uses them.
if(HOFT_NATIVE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(hoft_development INTERFACE -Wno-uninitialized -Wno-maybe-uninitialized)
endif()
