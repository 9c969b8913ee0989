// SPDX-License-Identifier: BSD-3-Clause
// PTX text as it stands: functions, variables and instructions with their operands, nothing resolved yet.
#pragma once
#include "common.hpp"

#include <memory>
#include <unordered_map>

namespace emu {

struct operand {
  enum class kind { none, reg, integer, real32, real64, symbol, memory, list };
  kind is = kind::none;
  bool negated = false;     ///< !%p
  std::string name;         ///< of a register or symbol; of a memory operand's base
  u64 bits = 0;             ///< of a literal; the offset of a memory operand
  std::vector<operand> of;  ///< of a list {a, b} or (a, b), or of a pair a|b (`pair`)
  bool pair = false;
};

struct raw_instruction {
  std::string guard;
  bool guard_negated = false;
  std::string opcode;              ///< whole
  std::vector<std::string> parts;  ///< opcode, cut at its dots
  std::vector<operand> operands;
  int file = 0, line = 0;  ///< of the source, from .loc
  int ptx_line = 0;
  bool has(std::string_view part) const {
    for (auto const& p : parts)
      if (p == part) return true;
    return false;
  }
};

struct variable {
  std::string name, space;                             ///< global, const, shared, local, param
  std::string type;                                    ///< of an element
  u64 align = 1, size = 0;                             ///< bytes
  bool external = false;                               ///< extern .shared x[]: the dynamic shared memory
  std::vector<u8> bytes;                               ///< initial, of global and const
  std::vector<std::pair<u64, std::string>> addresses;  ///< of symbols in the initial bytes
};

struct function {
  std::string name;
  bool entry = false;
  std::vector<variable> params, results;
  std::vector<variable> locals;  ///< .local, .shared and .param inside
  u32 max_threads = 0;           ///< .maxntid, product; 0: none
  u32 required_threads = 0;      ///< .reqntid
  u32 required_cluster = 0;      ///< .reqnctapercluster
  // Lazily parsed: a program has many kernels, a test runs few.
  std::string_view body;
  int body_line = 0;
  bool parsed = false;
  std::vector<raw_instruction> code;
  std::unordered_map<std::string, u32> labels;  ///< index of an instruction
  struct reg {
    std::string type;
  };
  std::vector<reg> regs;
  std::unordered_map<std::string, u32> reg_by_name;  ///< names in nested scopes are made unique as they are parsed
};

struct module {
  std::string text;
  std::vector<std::string> files;
  std::vector<variable> variables;
  std::unordered_map<std::string, std::unique_ptr<function>> functions;
};

/// Finds what a module defines; bodies are left for parse_body.
std::unique_ptr<module> parse_module(std::string text);
void parse_body(module const& m, function& f);
/// The address of a variable, allocated on first use; 0 if there is none of that name.
u64 address_of_variable(module const& m, std::string const& name);
/// Bytes of a PTX type (.pred: 0).
u32 size_of_type(std::string_view type);

}  // namespace emu
