# SPDX-License-Identifier: BSD-3-Clause
# A toolchain file: Debian's cross compiler for 64-bit ARM, and QEMU to run what it makes. Static programs need no root
# of that system.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
find_program(HOFT_EMULATOR NAMES qemu-aarch64-static qemu-aarch64 REQUIRED)
set(CMAKE_CROSSCOMPILING_EMULATOR "${HOFT_EMULATOR}")
