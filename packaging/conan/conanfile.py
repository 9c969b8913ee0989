# SPDX-License-Identifier: BSD-3-Clause
"""Conan 2's recipe of the checkout that it lies in: `conan create packaging/conan` from the root."""

import os
import re

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load, rmdir


class Hoft(ConanFile):
    name = "hoft"
    description = "Householder products, compact WY forms and orthogonal fine-tuning transforms; headers only"
    license = "BSD-3-Clause"
    topics = ("householder", "orthogonal", "fine-tuning", "linear-algebra", "header-only")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    implements = ["auto_header_only"]
    no_copy_source = True

    def set_version(self):
        header = load(self, os.path.join(self.recipe_folder, "../../include/hoft/version.hpp"))
        parts = re.findall(r"^#define HOFT_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)$", header, re.MULTILINE)
        self.version = ".".join(parts)

    def export_sources(self):
        root = os.path.join(self.recipe_folder, "..", "..")
        for pattern in ("CMakeLists.txt", "LICENSE", "cmake/*", "include/*"):
            copy(self, pattern, src=root, dst=self.export_sources_folder)

    def layout(self):
        cmake_layout(self)

    def requirements(self):
        self.requires("eigen/[>=3.4 <6]", transitive_headers=True)

    def validate(self):
        check_min_cppstd(self, 20)

    def generate(self):
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables["HOFT_INSTALL"] = True
        for part in ("TESTS", "EXAMPLES", "BENCH", "DOCS"):
            toolchain.cache_variables[f"HOFT_BUILD_{part}"] = False
        toolchain.generate()
        CMakeDeps(self).generate()

    def build(self):
        CMake(self).configure()

    def package(self):
        CMake(self).install()
        copy(self, "LICENSE", src=self.source_folder, dst=os.path.join(self.package_folder, "licenses"))
        # Conan writes the package files of CMake and pkg-config for its own places.
        rmdir(self, os.path.join(self.package_folder, "share"))

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "hoft")
        self.cpp_info.set_property("cmake_target_name", "hoft::hoft")
        self.cpp_info.set_property("pkg_config_name", "hoft")
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
        if self.settings.get_safe("os") in ("Linux", "FreeBSD"):
            self.cpp_info.system_libs = ["pthread"]
