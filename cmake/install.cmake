# SPDX-License-Identifier: BSD-3-Clause
# `cmake --install` and, for those who then say find_package(hoft) or `pkg-config hoft`, the package.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(hoft_package_dir "${CMAKE_INSTALL_DATADIR}/cmake/hoft")

install(TARGETS hoft EXPORT hoft-targets FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(EXPORT hoft-targets NAMESPACE hoft:: DESTINATION "${hoft_package_dir}")

configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/hoft-config.cmake.in" "${PROJECT_BINARY_DIR}/hoft-config.cmake"
                              INSTALL_DESTINATION "${hoft_package_dir}")
# Headers only, so any architecture; before 1.0 a minor version may break the face.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/hoft-config-version.cmake" COMPATIBILITY SameMinorVersion
                                 ARCH_INDEPENDENT)
install(FILES "${PROJECT_BINARY_DIR}/hoft-config.cmake" "${PROJECT_BINARY_DIR}/hoft-config-version.cmake"
              "${CMAKE_CURRENT_LIST_DIR}/hoft-cuda.cmake"
        DESTINATION "${hoft_package_dir}")
# For those who build with pkg-config. It finds the headers from its own place, so that both can be moved.
set(hoft_pc_dir "${CMAKE_INSTALL_FULL_DATADIR}/pkgconfig")
file(RELATIVE_PATH hoft_pc_to_headers "${hoft_pc_dir}" "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
configure_file("${CMAKE_CURRENT_LIST_DIR}/hoft.pc.in" "${PROJECT_BINARY_DIR}/hoft.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/hoft.pc" DESTINATION "${CMAKE_INSTALL_DATADIR}/pkgconfig")

install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}")
