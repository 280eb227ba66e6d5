# SPDX-License-Identifier: Apache-2.0
# Warnings, hardening and sanitizers, the same for every module.
add_compile_definitions(_GNU_SOURCE NODED_VERSION="${PROJECT_VERSION}")
add_compile_options(-Wall -Wextra -Wno-missing-field-initializers -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion -Wswitch-enum
    -Wvla -Wformat=2 -Wundef -fno-common -fstack-protector-strong -fPIE)
add_link_options(-pie -Wl,-z,relro,-z,now)

if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()
# Asserts stay on in release builds: a broken invariant ends the daemon, systemd restarts it, containers live on.
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")
if(NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
    add_compile_definitions(_FORTIFY_SOURCE=2)
endif()

set(NODED_SANITIZE "" CACHE STRING "sanitizers, such as address,undefined or thread")
if(NODED_SANITIZE)
    add_compile_options(-fsanitize=${NODED_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
    add_link_options(-fsanitize=${NODED_SANITIZE})
endif()
