// SPDX-License-Identifier: BSD-3-Clause
// From the text of PTX to module.hpp: what a module defines, and the bodies of kernels.
#include "lexer.hpp"

#include <algorithm>

namespace emu {
namespace {

u64 integer_of(std::string_view text) {
  std::string digits(text);
  if (!digits.empty() && (digits.back() == 'U' || digits.back() == 'u')) digits.pop_back();
  return std::strtoull(digits.c_str(), nullptr, 0);
}

/// A literal: an integer, or the bits of a float (0f and 8 hexadecimal digits) or a double (0d and 16).
operand literal(lexer& in) {
  bool const minus = in.accept("-");
  token const t = in.take();
  operand o;
  if (t.text.size() > 2 && t.text[0] == '0' && (t.text[1] == 'f' || t.text[1] == 'F') && t.text.size() == 10) {
    o.is = operand::kind::real32;
    o.bits = std::strtoull(std::string(t.text.substr(2)).c_str(), nullptr, 16);
    if (minus) o.bits ^= 0x80000000u;
  } else if (t.text.size() == 18 && t.text[0] == '0' && (t.text[1] == 'd' || t.text[1] == 'D')) {
    o.is = operand::kind::real64;
    o.bits = std::strtoull(std::string(t.text.substr(2)).c_str(), nullptr, 16);
    if (minus) o.bits ^= u64{1} << 63;
  } else {
    o.is = operand::kind::integer;
    o.bits = integer_of(t.text);
    if (minus) o.bits = 0 - o.bits;
  }
  return o;
}

/// .align 8 .b8 name[16] and the like, behind the space.
variable declaration(lexer& in, std::string_view space) {
  variable v;
  v.space = space;
  u64 count = 1;
  for (;;) {
    if (in.accept(".align")) v.align = integer_of(in.take().text);
    else if (in.accept(".ptr") || in.is(".global") || in.is(".shared") || in.is(".const") || in.is(".local")) {
      if (in.now().text.starts_with(".") &&
          (in.is(".global") || in.is(".shared") || in.is(".const") || in.is(".local")))
        in.take();
      if (in.accept(".align")) in.take();
    } else if (in.accept(".attribute")) {
      in.expect("(");
      while (!in.accept(")")) in.take();
    } else if (in.accept(".v2")) count *= 2;
    else if (in.accept(".v4")) count *= 4;
    else break;
  }
  v.type = std::string(in.take().text.substr(1));
  // `.ptr .align` may follow the type
  while (in.is(".ptr") || in.is(".align") || in.is(".global") || in.is(".shared") || in.is(".const") ||
         in.is(".local")) {
    if (in.accept(".align")) in.take();
    else in.take();
  }
  v.name = std::string(in.take().text);
  u64 const element = size_of_type(v.type);
  v.align = std::max(v.align, element);
  bool open = false;
  while (in.accept("[")) {
    if (in.accept("]")) {
      open = true;
      continue;
    }
    count *= integer_of(in.take().text);
    in.expect("]");
  }
  v.size = open ? 0 : count * element;
  return v;
}

void initialiser(lexer& in, variable& v) {
  u64 const element = size_of_type(v.type);
  v.bytes.assign(std::size_t(v.size), 0);
  if (!in.accept("=")) return;
  u64 at = 0;
  auto const value = [&] {
    if (in.now().is == token::kind::word) {  // a symbol, generic(symbol), symbol+offset
      bool const wrapped = in.accept("generic");
      if (wrapped) in.expect("(");
      std::string const name(in.take().text);
      if (wrapped) in.expect(")");
      if (in.accept("+")) throw unsupported("an address with an offset among initial values");
      v.addresses.emplace_back(at, name);
    } else {
      operand const o = literal(in);
      if (at + element > v.size) v.size = at + element, v.bytes.resize(std::size_t(v.size), 0);
      std::memcpy(v.bytes.data() + at, &o.bits, std::size_t(element));
    }
    at += element;
  };
  if (!in.accept("{")) return value();
  int depth = 1;
  while (depth > 0) {
    if (in.accept("{")) ++depth;
    else if (in.accept("}")) --depth;
    else if (!in.accept(",")) value();
  }
}

std::vector<variable> parameters(lexer& in) {
  std::vector<variable> all;
  while (!in.accept(")")) {
    in.expect(".param");
    all.push_back(declaration(in, "param"));
    in.accept(",");
  }
  return all;
}

class body_parser {
 public:
  body_parser(module const& m, function& f) : f_(f), in_(f.body, f.body_line) { (void)m; }

  void run() {
    scopes_.emplace_back();
    while (in_.now().is != token::kind::end) statement();
  }

 private:
  void statement() {
    if (in_.now().is == token::kind::location) {
      token const t = in_.take();
      file_ = t.file, source_line_ = t.source_line;
      return;
    }
    if (in_.accept("{")) {
      scopes_.emplace_back();
      return;
    }
    if (in_.accept("}")) {
      scopes_.pop_back();
      return;
    }
    if (in_.accept(";")) return;
    if (in_.is(".reg")) return registers();
    if (in_.is(".local") || in_.is(".shared") || in_.is(".param")) {
      std::string const space(in_.take().text.substr(1));
      variable v = declaration(in_, space);
      std::string const name = v.name;
      v.name = unique(name);
      scopes_.back()[name] = v.name;
      f_.locals.push_back(v);
      in_.expect(";");
      return;
    }
    if (in_.accept(".pragma")) {
      while (!in_.accept(";")) in_.take();
      return;
    }
    if (in_.now().is == token::kind::word && in_.now().text.starts_with(".") && !in_.is(".branchtargets"))
      throw unsupported(
          format("PTX line %d: directive %.*s", in_.now().line, int(in_.now().text.size()), in_.now().text.data()));
    instruction_or_label();
  }

  void registers() {
    in_.take();
    std::string const type(in_.take().text.substr(1));
    do {
      std::string const name(in_.take().text);
      if (in_.accept("<")) {
        u64 const count = integer_of(in_.take().text);
        in_.expect(">");
        for (u64 i = 0; i < count; ++i) add_register(name + std::to_string(i), type);
      } else {
        add_register(name, type);
      }
    } while (in_.accept(","));
    in_.expect(";");
  }
  void add_register(std::string const& name, std::string const& type) {
    std::string const own = unique(name);
    if (own != name || scopes_.size() > 1) scopes_.back()[name] = own;
    f_.reg_by_name[own] = u32(f_.regs.size());
    f_.regs.push_back({type});
  }
  std::string unique(std::string const& name) {
    int& uses = uses_[name];
    return uses++ == 0 ? name : name + "'" + std::to_string(uses);
  }
  std::string resolved(std::string_view name) const {
    std::string const text(name);
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
      if (auto const at = scope->find(text); at != scope->end()) return at->second;
    return text;
  }

  void instruction_or_label() {
    raw_instruction i;
    i.ptx_line = in_.now().line;
    if (in_.accept("@")) {
      i.guard_negated = in_.accept("!");
      i.guard = resolved(in_.take().text);
    }
    std::string_view const word = in_.take().text;
    if (in_.is(":")) {
      in_.take();
      if (in_.is(".branchtargets") || in_.is(".callprototype") || in_.is(".calltargets"))
        throw unsupported(format("PTX line %d: tables of labels", i.ptx_line));
      f_.labels[std::string(word)] = u32(f_.code.size());
      return;
    }
    i.opcode = std::string(word);
    i.file = file_, i.line = source_line_;
    std::string_view rest = word;
    for (;;) {
      auto const dot = rest.find('.');
      i.parts.emplace_back(rest.substr(0, dot));
      if (dot == std::string_view::npos) break;
      rest.remove_prefix(dot + 1);
    }
    while (!in_.is(";")) {
      if (in_.now().is == token::kind::end) throw unsupported("PTX ends within an instruction");
      if (in_.now().is == token::kind::location) {
        in_.take();
        continue;
      }
      i.operands.push_back(parse_operand());
      in_.accept(",");
    }
    in_.expect(";");
    f_.code.push_back(std::move(i));
  }

  operand parse_operand() {
    operand o;
    if (in_.is("{") || in_.is("(")) {
      char const* const end = in_.is("{") ? "}" : ")";
      in_.take();
      o.is = operand::kind::list;
      while (!in_.accept(end)) {
        o.of.push_back(parse_operand());
        in_.accept(",");
      }
      return o;
    }
    if (in_.accept("[")) {
      o.is = operand::kind::memory;
      if (in_.now().is == token::kind::number) o.bits = literal(in_).bits;
      else o.name = resolved(in_.take().text);
      while (!in_.accept("]")) {
        if (in_.accept("+")) o.bits += literal(in_).bits;
        else if (in_.is("-")) o.bits += literal(in_).bits;
        else throw unsupported(format("PTX line %d: an address of several parts", in_.now().line));
      }
      return o;
    }
    if (in_.accept("!")) {
      o = parse_operand();
      o.negated = true;
      return o;
    }
    if (in_.is("-") || in_.now().is == token::kind::number) return literal(in_);
    std::string_view const word = in_.take().text;
    o.name = resolved(word);
    o.is = f_.reg_by_name.contains(o.name) || word.starts_with("%") || word == "_" ? operand::kind::reg
                                                                                   : operand::kind::symbol;
    if (in_.accept("|")) {
      operand both;
      both.is = operand::kind::list;
      both.pair = true;
      both.of.push_back(o);
      both.of.push_back(parse_operand());
      return both;
    }
    if (o.is == operand::kind::symbol && in_.accept("+")) o.bits = literal(in_).bits;
    return o;
  }

  function& f_;
  lexer in_;
  int file_ = 0, source_line_ = 0;
  std::vector<std::unordered_map<std::string, std::string>> scopes_;
  std::unordered_map<std::string, int> uses_;
};

}  // namespace

u32 size_of_type(std::string_view type) {
  if (type == "pred") return 0;
  if (type == "f16x2" || type == "bf16x2") return 4;
  if (type == "bf16" || type == "f16") return 2;
  if (type == "b128") return 16;
  u32 const bits = u32(std::strtoul(std::string(type.substr(1)).c_str(), nullptr, 10));
  if (bits % 8 != 0 || bits == 0) throw unsupported("type ." + std::string(type));
  return bits / 8;
}

std::unique_ptr<module> parse_module(std::string text) {
  auto m = std::make_unique<module>();
  m->text = std::move(text);
  lexer in(m->text, 1);
  bool external = false;
  while (in.now().is != token::kind::end) {
    if (in.now().is == token::kind::location) {
      in.take();
      continue;
    }
    token const t = in.take();
    if (t.text == ".version" || t.text == ".target" || t.text == ".address_size") {
      in.take();
      while (in.accept(",")) in.take();
    } else if (t.text == ".file") {
      std::size_t const index = std::size_t(integer_of(in.take().text));
      std::string const name(in.take().text);
      if (m->files.size() <= index) m->files.resize(index + 1);
      m->files[index] = name;
      while (in.accept(",")) in.take();
    } else if (t.text == ".section") {
      in.take();
      in.expect("{");
      in.skip_braces();
    } else if (t.text == ".pragma") {
      while (!in.accept(";")) in.take();
    } else if (t.text == ".visible" || t.text == ".weak" || t.text == ".common") {
      external = false;
    } else if (t.text == ".extern") {
      external = true;
    } else if (t.text == ".global" || t.text == ".const" || t.text == ".shared") {
      variable v = declaration(in, t.text.substr(1));
      v.external = external;
      external = false;
      initialiser(in, v);
      m->variables.push_back(std::move(v));
      in.expect(";");
    } else if (t.text == ".entry" || t.text == ".func") {
      auto f = std::make_unique<function>();
      f->entry = t.text == ".entry";
      external = false;
      if (in.accept("(")) f->results = parameters(in);
      f->name = std::string(in.take().text);
      if (in.accept("(")) f->params = parameters(in);
      bool defined = false;
      for (;;) {
        if (in.now().is == token::kind::location) {
          in.take();
          continue;
        }
        if (in.accept(";")) break;
        auto const numbers = [&] {
          u64 product = 1;
          do product *= integer_of(in.take().text);
          while (in.accept(","));
          return u32(product);
        };
        if (in.is("{")) {
          in.take();
          f->body_line = in.now().line;
          f->body = in.skip_braces();
          defined = true;
          break;
        }
        if (in.accept(".maxntid")) f->max_threads = numbers();
        else if (in.accept(".reqntid")) f->required_threads = numbers();
        else if (in.accept(".reqnctapercluster")) f->required_cluster = numbers();
        else if (in.accept(".minnctapersm") || in.accept(".maxnreg") || in.accept(".maxclusterrank")) numbers();
        else if (in.accept(".noreturn") || in.accept(".explicitcluster")) {
        } else
          throw unsupported(format("PTX line %d: %.*s of a function", in.now().line, int(in.now().text.size()),
                                   in.now().text.data()));
      }
      if (defined) m->functions[f->name] = std::move(f);
    } else if (t.text == ".alias") {
      while (!in.accept(";")) in.take();
    } else {
      throw unsupported(format("PTX line %d: %.*s between functions", t.line, int(t.text.size()), t.text.data()));
    }
  }
  return m;
}

void parse_body(module const& m, function& f) {
  if (f.parsed) return;
  body_parser(m, f).run();
  f.parsed = true;
}

}  // namespace emu
