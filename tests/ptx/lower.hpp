// SPDX-License-Identifier: BSD-3-Clause
// From PTX's instructions to those of machine.hpp.
#pragma once
#include "machine.hpp"

#include <unordered_map>

namespace emu {

struct lowering {
  struct reference {
    u32 value;  ///< a register's number, or an offset into constants
    bool is_register, defines;
  };
  program& p;
  module const& m;
  function& f;
  std::unordered_map<std::string, u64> const& symbols;  ///< addresses
  raw_instruction const* raw = nullptr;
  instruction now;
  std::vector<reference> refs;

  std::vector<instruction> code;
  std::vector<std::vector<reference>> all_refs;
  std::unordered_map<std::string, u32> constant_at;

  [[noreturn]] void refuse(std::string const& why = "") const;
  u32 width_of(operand const& o) const;  ///< bytes of a register; predicates: 0
  void define(operand const& o, u32 width);
  void define_wide(operand const& o, u32 least);  ///< of at least so many bytes; PTX lets loads and cvt extend
  void use(operand const& o, u32 width);
  void use_literal(u64 bits, u32 width);
  void use_nothing() { refs.push_back({no_operand, false, false}); }  ///< an operand that is not there
  void use_predicate(operand const& o);
  void define_predicate(operand const& o);
  u64 value_of(operand const& o, u32 width) const;  ///< of a literal or symbol
  std::string const& part(std::size_t i) const { return raw->parts.at(i); }
  std::string const& last_part() const { return raw->parts.back(); }
  operand const& op(std::size_t i) const {
    if (i >= raw->operands.size()) refuse("too few operands");
    return raw->operands[i];
  }
};

/// Places of registers, each an offset, and the bytes of all. `leaders` are the first instructions of basic blocks.
u32 place_registers(lowering const& in, std::vector<u32> const& leaders, std::vector<u32>& offset);

bool lower_arithmetic(lowering& in);  ///< single lanes, no memory
bool lower_memory(lowering& in);
bool lower_copy(lowering& in);
bool lower_bulk(lowering& in);  ///< bulk copies and barriers in memory
bool lower_collective(lowering& in);

}  // namespace emu
