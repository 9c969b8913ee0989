// hoft/config.hpp: the version and the one macro that lets core headers compile for a GPU.
#pragma once

#define HOFT_VERSION_MAJOR 0
#define HOFT_VERSION_MINOR 1
#define HOFT_VERSION_PATCH 0

#if defined(__CUDACC__)
#define HOFT_HOST_DEVICE __host__ __device__
#else
#define HOFT_HOST_DEVICE
#endif
