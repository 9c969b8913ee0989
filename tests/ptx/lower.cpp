// SPDX-License-Identifier: BSD-3-Clause
#include "lower.hpp"

#include "handlers.hpp"

#include <cxxabi.h>

#include <algorithm>
#include <deque>
#include <mutex>

namespace emu {

bool lower_arithmetic(lowering& in) {
  return lower_move(in) || lower_predicate(in) || lower_conversion(in) || lower_real(in) || lower_integer(in);
}

char const* name_of(kind_of k) {
  static char const* const names[] = {"integer",      "real32",     "real64",      "conversion",   "predicate",
                                      "move",         "branch",     "load_global", "store_global", "load_shared",
                                      "store_shared", "load_param", "load_local",  "copy_async",   "matrix",
                                      "ldmatrix",     "shuffle",    "barrier",     "special",      "other"};
  return names[std::size_t(k)];
}

void lowering::refuse(std::string const& why) const {
  throw unsupported(format("PTX line %d: '%s' is not provided%s%s (kernel %s)", raw->ptx_line, raw->opcode.c_str(),
                           why.empty() ? "" : ": ", why.c_str(), p.name.c_str()));
}
u32 lowering::width_of(operand const& o) const {
  auto const at = f.reg_by_name.find(o.name);
  if (at == f.reg_by_name.end()) refuse("no register " + o.name);
  return size_of_type(f.regs[at->second].type);
}
u64 lowering::value_of(operand const& o, u32 width) const {
  switch (o.is) {
    case operand::kind::integer:
      return o.bits;
    case operand::kind::real32:
      if (width != 4) refuse("a literal of 32 bits");
      return o.bits;
    case operand::kind::real64:
      if (width == 4) {
        double d;
        std::memcpy(&d, &o.bits, 8);
        float const s = float(d);
        u32 bits;
        std::memcpy(&bits, &s, 4);
        return bits;
      }
      return o.bits;
    case operand::kind::symbol: {
      auto const at = symbols.find(o.name);
      if (at == symbols.end()) refuse("no symbol " + o.name);
      return at->second + o.bits;
    }
    default:
      refuse("operand");
  }
}
void lowering::define(operand const& o, u32 width) {
  if (o.is != operand::kind::reg) refuse("destination");
  if (width_of(o) != width) refuse(format("destination %s of %u bytes", o.name.c_str(), width_of(o)));
  refs.push_back({f.reg_by_name.at(o.name), true, true});
}
void lowering::define_wide(operand const& o, u32 least) {
  if (width_of(o) < least) refuse("destination");
  refs.push_back({f.reg_by_name.at(o.name), true, true});
}
void lowering::use(operand const& o, u32 width) {
  if (o.negated) refuse("negation");
  if (o.is == operand::kind::reg) {
    if (width_of(o) != width) refuse(format("source %s of %u bytes, %u wanted", o.name.c_str(), width_of(o), width));
    refs.push_back({f.reg_by_name.at(o.name), true, false});
    return;
  }
  use_literal(value_of(o, width), width);
}
void lowering::use_literal(u64 bits, u32 width) {
  std::string const key = std::to_string(bits) + "/" + std::to_string(width);
  auto const at = constant_at.find(key);
  if (at != constant_at.end()) {
    refs.push_back({at->second, false, false});
    return;
  }
  u32 const offset = u32(p.constants.size());
  p.constants.resize(offset + (width * 32 + 63) / 64 * 64);
  for (u32 lane = 0; lane < 32; ++lane) std::memcpy(p.constants.data() + offset + lane * width, &bits, width);
  constant_at[key] = offset;
  refs.push_back({offset, false, false});
}
void lowering::use_predicate(operand const& o) {
  if (o.is == operand::kind::integer) {
    use_literal(o.bits != 0 ? full_warp : 0, 4);
    return;
  }
  if (width_of(o) != 0) refuse("no predicate");
  refs.push_back({f.reg_by_name.at(o.name), true, false});
}
void lowering::define_predicate(operand const& o) {
  if (width_of(o) != 0) refuse("no predicate");
  refs.push_back({f.reg_by_name.at(o.name), true, true});
}

namespace {

/// Branches, barriers, ends.
bool lower_control(lowering& in, std::vector<std::string>& targets) {
  std::string const& name = in.part(0);
  if (name == "bra") {
    in.now.what = control::branch;
    in.now.kind = kind_of::branch;
    in.now.target = u32(targets.size());
    targets.push_back(in.op(0).name);
    return true;
  }
  if (name == "ret" || name == "exit") {
    in.now.what = control::exit;
    in.now.kind = kind_of::branch;
    return true;
  }
  if (name == "trap" || name == "brkpt") {
    in.now.what = control::trap;
    return true;
  }
  bool const cluster = name == "barrier" && in.raw->has("cluster");
  if (cluster) {
    in.now.kind = kind_of::barrier;
    if (in.raw->has("arrive")) in.now.what = control::cluster_arrive;
    else if (in.raw->has("wait")) in.now.what = control::cluster_wait;
    else in.refuse();
    return true;
  }
  if ((name == "bar" && in.part(1) != "warp") || name == "barrier") {
    if (!in.raw->has("sync")) in.refuse();
    in.now.kind = kind_of::barrier;
    in.now.what = control::barrier;
    if (in.op(0).is != operand::kind::integer || in.raw->operands.size() != 1)
      in.refuse("a part of a block, or a barrier by register");
    in.now.immediate = s64(in.op(0).bits);
    return true;
  }
  return false;
}

std::string demangled(std::string const& name) {
  int status = 0;
  char* const text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  std::string const answer = status == 0 ? text : name;
  std::free(text);
  return answer;
}

}  // namespace

std::string program::place(u32 pc) const {
  auto const [file, line] = pc < lines.size() ? lines[pc] : std::pair<int, int>{0, 0};
  std::string text = name.size() > 300 ? name.substr(0, 300) + "..." : name;
  if (file > 0 && std::size_t(file) < home->files.size()) {
    std::string const& path = home->files[std::size_t(file)];
    auto const slash = path.rfind('/');
    text = path.substr(slash == std::string::npos ? 0 : slash + 1) + ":" + std::to_string(line) + ", PTX line " +
           std::to_string(ptx_lines[pc]) + ", kernel " + text;
  } else if (pc < ptx_lines.size()) text = "PTX line " + std::to_string(ptx_lines[pc]) + ", kernel " + text;
  return text;
}

program const& compile(module const& m, function& f) {
  static std::mutex mutex;
  static std::unordered_map<function const*, std::unique_ptr<program>> known;
  std::lock_guard const lock(mutex);
  auto& slot = known[&f];
  if (slot != nullptr) return *slot;
  parse_body(m, f);
  auto made = std::make_unique<program>();
  program& p = *made;
  p.home = &m, p.source = &f;
  p.name = demangled(f.name);
  p.max_threads = f.max_threads != 0 ? f.max_threads : f.required_threads != 0 ? f.required_threads : 1024;

  std::unordered_map<std::string, u64> symbols;
  u32 offset = 0;
  for (auto const& v : f.params) {
    offset = u32((offset + v.align - 1) / v.align * v.align);
    symbols[v.name] = param_window + offset;
    offset += u32(v.size);
  }
  p.param_bytes = offset;
  u32 shared = shared_begin, local = 0, dynamic_align = 16;
  auto const place_shared = [&](variable const& v) {
    shared = u32((shared + v.align - 1) / v.align * v.align);
    symbols[v.name] = shared;
    shared += u32(v.size);
  };
  for (auto const& v : f.locals) {
    if (v.space == "shared" && !v.external && v.size != 0) place_shared(v);
    else if (v.space == "local") {
      local = u32((local + v.align - 1) / v.align * v.align);
      symbols[v.name] = local;
      local += u32(v.size);
    } else if (v.space == "param") throw unsupported("calls of functions (kernel " + p.name + ")");
  }
  // Variables of the module that the kernel names.
  std::unordered_map<std::string, variable const*> by_name;
  for (auto const& v : m.variables) by_name[v.name] = &v;
  std::vector<std::string> dynamic;
  auto const name_symbol = [&](std::string const& name) {
    if (name.empty() || symbols.contains(name) || f.reg_by_name.contains(name)) return;
    auto const at = by_name.find(name);
    if (at == by_name.end()) return;
    variable const& v = *at->second;
    if (v.space == "shared") {
      if (v.external || v.size == 0) {
        dynamic.push_back(name);
        dynamic_align = std::max(dynamic_align, u32(v.align));
        symbols[name] = 0;
      } else place_shared(v);
    } else symbols[name] = address_of_variable(m, name);
  };
  for (auto const& i : f.code)
    for (auto const& o : i.operands) {
      if (o.is == operand::kind::symbol || o.is == operand::kind::memory) name_symbol(o.name);
      for (auto const& e : o.of)
        if (e.is == operand::kind::symbol) name_symbol(e.name);
    }
  p.static_shared = shared - shared_begin;
  p.dynamic_shared = (shared + dynamic_align - 1) / dynamic_align * dynamic_align;
  for (auto const& name : dynamic) symbols[name] = p.dynamic_shared;
  p.local_bytes = (local + 15) / 16 * 16;

  lowering in{p, m, f, symbols, nullptr, {}, {}, {}, {}, {}};
  std::vector<std::string> targets;
  for (auto const& raw : f.code) {
    in.raw = &raw;
    in.now = {};
    in.refs.clear();
    if (!lower_control(in, targets) && !lower_collective(in) && !lower_memory(in) && !lower_bulk(in) &&
        !lower_copy(in) && !lower_arithmetic(in))
      in.refuse();
    if (!raw.guard.empty()) {
      auto const at = f.reg_by_name.find(raw.guard);
      if (at == f.reg_by_name.end()) in.refuse("guard");
      in.now.guard = at->second;
      in.now.guard_flip = raw.guard_negated ? full_warp : 0;
    }
    in.code.push_back(in.now);
    in.all_refs.push_back(in.refs);
    p.lines.emplace_back(raw.file, raw.line);
    p.ptx_lines.push_back(raw.ptx_line);
  }
  // A kernel may end without `ret` behind its last instruction.
  instruction last;
  last.what = control::exit, last.kind = kind_of::branch;
  in.code.push_back(last);
  in.all_refs.emplace_back();
  p.lines.push_back(p.lines.empty() ? std::pair<int, int>{0, 0} : p.lines.back());
  p.ptx_lines.push_back(0);

  std::vector<bool> leads(in.code.size() + 1);
  leads[0] = true;
  for (auto const& [label, at] : f.labels) leads[at] = true;
  for (std::size_t pc = 0; pc < in.code.size(); ++pc) {
    instruction& i = in.code[pc];
    if (i.what == control::branch) {
      auto const at = f.labels.find(targets[i.target]);
      if (at == f.labels.end()) throw unsupported("no label " + targets[i.target]);
      i.target = at->second;
      leads[pc + 1] = true;
    }
    if (i.what == control::exit) leads[pc + 1] = true;
  }
  std::vector<u32> leaders;
  for (std::size_t pc = 0; pc < in.code.size(); ++pc)
    if (leads[pc]) leaders.push_back(u32(pc));
  std::vector<u32> place;
  p.register_bytes = place_registers(in, leaders, place);

  for (std::size_t pc = 0; pc < in.code.size(); ++pc) {
    instruction& i = in.code[pc];
    auto const& refs = in.all_refs[pc];
    std::vector<u32> offsets;
    for (auto const& ref : refs)
      offsets.push_back(ref.is_register           ? place[ref.value]
                        : ref.value == no_operand ? no_operand
                                                  : ref.value | constant_bit);
    if (refs.size() <= 8) std::copy(offsets.begin(), offsets.end(), i.o);
    else {
      i.immediate = s64(p.wide.size());
      p.wide.push_back(offsets);
    }
    if (i.guard != no_operand) i.guard = place[i.guard];
  }
  p.code = std::move(in.code);
  slot = std::move(made);
  return *slot;
}

}  // namespace emu
