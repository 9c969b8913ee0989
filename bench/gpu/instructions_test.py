#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What instructions.py makes of a disassembly whose loops are known."""

import unittest

import instructions

DISASSEMBLY = """
		Function : first
        /*0000*/                   LDC R1, c[0x0][0x28] ;                    /* 0x00000a00ff017b82 */
                                                                             /* 0x000ff00000000800 */
        /*0010*/                   MOV R2, RZ ;                              /* 0x0 */
        /*0020*/               @P0 BRA 0x80 ;                                /* 0x0 */
        /*0030*/                   LDSM.16.M88.4 R20, [R39] ;                /* 0x0 */
        /*0040*/                   HMMA.16816.F32.BF16 R32, R16.reuse, R20, R32 ;  /* 0x0 */
        /*0050*/              @!P1 BRA 0x30 ;                                /* 0x0 */
        /*0060*/                   VIADD R2, R2, 0x1 ;                       /* 0x0 */
        /*0070*/             @!UP0 BRA `(outer) 0x10 ;                       /* 0x0 */
        /*0080*/                   EXIT ;                                    /* 0x0 */
        /*0090*/                   BRA 0x90;                                 /* 0x0 */
		Function : second
        /*0000*/                   EXIT ;                                    /* 0x0 */
"""


class Instructions(unittest.TestCase):
    def test_functions(self):
        found = instructions.functions(DISASSEMBLY)
        self.assertEqual(list(found), ["first", "second"])
        self.assertEqual(instructions.innermost_loops(found["second"])[0], ["EXIT"])

    def test_innermost_loops(self):
        opcodes, loops = instructions.innermost_loops(instructions.functions(DISASSEMBLY)["first"])
        self.assertEqual(len(opcodes), 10)
        # The outer loop has the inner one, a jump to itself ends the function, and a jump ahead is none.
        self.assertEqual([(loop.size, loop.around) for loop in loops], [(3, 7)])
        self.assertEqual(loops[0].opcodes, {"LDSM": 1, "HMMA": 1, "BRA": 1})

    def test_short_name(self):
        name = (
            "void hoft::cuda::detail::run_cluster<hoft::cuda::cluster_adapt_kernel<float> >"
            "(hoft::cuda::cluster_adapt_kernel<float>, long)"
        )
        self.assertEqual(instructions.short_name(name), "cluster_adapt_kernel<float>")
        within = name.replace("hoft::cuda::", "hoft::v0_1::avx2_fma_f16c::cuda::sm_900::")
        self.assertEqual(instructions.short_name(within), "cluster_adapt_kernel<float>")


if __name__ == "__main__":
    unittest.main()
