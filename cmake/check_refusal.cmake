# SPDX-License-Identifier: BSD-3-Clause
# Run by cmake -P with COMPILER, SOURCE, INCLUDE_DIR, SYSTEM_INCLUDE_DIRS and HEADER, which is included first.
# SOURCE compiles as it stands. With -DREFUSED=i it must not, and the compiler's output must contain the text of its
# i-th line `// refused: <text>`, in a static assertion: no other error may stand beside it (`// refused among others:
# <text>` allows that). Compiling the accepted form first makes sure that it is the other one that is refused.
file(STRINGS "${SOURCE}" expected REGEX "^// refused( among others)?: ")
list(TRANSFORM expected REPLACE "^// refused" "")
if(NOT expected)
  message(FATAL_ERROR "${SOURCE} has no line `// refused: <text>`")
endif()

set(command "${COMPILER}" -std=c++20 -fsyntax-only -include "${HEADER}" "-I${INCLUDE_DIR}")
foreach(dir IN LISTS SYSTEM_INCLUDE_DIRS)
  list(APPEND command -isystem "${dir}")
endforeach()

execute_process(COMMAND ${command} -DREFUSED=0 "${SOURCE}" RESULT_VARIABLE status ERROR_VARIABLE output)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "the accepted form does not compile:\n${output}")
endif()

set(number 0)
foreach(line IN LISTS expected)
  math(EXPR number "${number} + 1")
  string(REGEX REPLACE "^( among others)?: " "" text "${line}")
  execute_process(COMMAND ${command} -DREFUSED=${number} "${SOURCE}" RESULT_VARIABLE status ERROR_VARIABLE output)
  if(status EQUAL 0)
    message(SEND_ERROR "${number} compiles, but must be refused with the words `${text}`")
    continue()
  endif()
  string(FIND "${output}" "${text}" position)
  if(position EQUAL -1)
    message(SEND_ERROR "${number} is refused without the words `${text}`:\n${output}")
  endif()
  string(REGEX REPLACE "[][;]" " " plain "${output}")  # which would make other lists
  string(REGEX MATCHALL "error: [^\n]*" errors "${plain}")
  list(FILTER errors EXCLUDE REGEX "static assertion failed|static_assert failed")
  if(errors AND NOT line MATCHES "^ among others: ")
    message(SEND_ERROR "${number} is refused with more words than `${text}`:\n${errors}")
  endif()
endforeach()
