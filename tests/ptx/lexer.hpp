// SPDX-License-Identifier: BSD-3-Clause
// Words of PTX.
#pragma once
#include "module.hpp"

#include <cctype>
#include <cstdio>

namespace emu {

struct token {
  enum class kind { end, word, number, text, punctuation, location } is = kind::end;
  std::string_view text;
  int line = 0;
  int file = 0, source_line = 0;  // of a location
};

inline bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$' || c == '%' || c == '.';
}

class lexer {
 public:
  lexer(std::string_view text, int line) : text_(text), line_(line) { next(); }
  token const& now() const { return now_; }
  token take() {
    token const t = now_;
    next();
    return t;
  }
  bool is(std::string_view what) const { return now_.text == what && now_.is != token::kind::text; }
  bool accept(std::string_view what) {
    if (!is(what)) return false;
    next();
    return true;
  }
  void expect(std::string_view what) {
    if (!accept(what))
      throw unsupported(format("PTX line %d: '%.*s' where '%.*s' was expected", now_.line, int(now_.text.size()),
                               now_.text.data(), int(what.size()), what.data()));
  }
  std::size_t position() const { return start_; }
  int line() const { return line_; }
  /// Skips to behind the brace that closes the one just taken; answers what is between.
  std::string_view skip_braces() {
    std::size_t const first = start_;
    int depth = 1;
    std::size_t at = first;
    line_ = now_.line;
    for (; at < text_.size() && depth > 0; ++at) {
      char const c = text_[at];
      if (c == '\n') ++line_;
      else if (c == '{') ++depth;
      else if (c == '}') --depth;
      else if (c == '/' && at + 1 < text_.size() && text_[at + 1] == '/') {
        while (at + 1 < text_.size() && text_[at + 1] != '\n') ++at;
      } else if (c == '"') {
        for (++at; at < text_.size() && text_[at] != '"'; ++at) {
        }
      }
    }
    std::string_view const inner = text_.substr(first, at - 1 - first);
    at_ = at;
    next();
    return inner;
  }
  void skip_line() {
    while (at_ < text_.size() && text_[at_] != '\n') ++at_;
    next();
  }

 private:
  void next() {
    for (;;) {
      while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) {
        if (text_[at_] == '\n') ++line_;
        ++at_;
      }
      if (at_ + 1 < text_.size() && text_[at_] == '/' && text_[at_ + 1] == '/') {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
        continue;
      }
      if (at_ + 1 < text_.size() && text_[at_] == '/' && text_[at_ + 1] == '*') {
        at_ += 2;
        while (at_ + 1 < text_.size() && !(text_[at_] == '*' && text_[at_ + 1] == '/')) {
          if (text_[at_] == '\n') ++line_;
          ++at_;
        }
        at_ += 2;
        continue;
      }
      break;
    }
    start_ = at_;
    now_ = {};
    now_.line = line_;
    if (at_ >= text_.size()) return;
    char const c = text_[at_];
    if (c == '"') {
      std::size_t const first = ++at_;
      while (at_ < text_.size() && text_[at_] != '"') ++at_;
      now_.is = token::kind::text;
      now_.text = text_.substr(first, at_ - first);
      ++at_;
      return;
    }
    if (is_word(c)) {
      std::size_t const first = at_;
      while (at_ < text_.size() &&
             (is_word(text_[at_]) || (text_[at_] == ':' && at_ + 1 < text_.size() && text_[at_ + 1] == ':'))) {
        if (text_[at_] == ':') ++at_;
        ++at_;
      }
      now_.text = text_.substr(first, at_ - first);
      now_.is = std::isdigit(static_cast<unsigned char>(c)) != 0 ? token::kind::number : token::kind::word;
      if (now_.text == ".loc") {  // file line column [, function_name ..., inlined_at ...], to the end of its line
        std::size_t const end = std::min(text_.find('\n', at_), text_.size());
        std::string const rest(text_.substr(at_, end - at_));
        int file = 0, line = 0;
        std::sscanf(rest.c_str(), "%d %d", &file, &line);
        now_.is = token::kind::location;
        now_.file = file, now_.source_line = line;
        at_ = end;
      }
      return;
    }
    now_.is = token::kind::punctuation;
    now_.text = text_.substr(at_++, 1);
  }

  std::string_view text_;
  std::size_t at_ = 0, start_ = 0;
  int line_;
  token now_;
};

}  // namespace emu
