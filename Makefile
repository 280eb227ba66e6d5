# SPDX-License-Identifier: Apache-2.0
# The newcomer's door. Everything below installs what it needs on Debian 12 or 13 and can be run again at any time.
#   make run     build, start a node of its own, show the main job on real containers
#   make check   build and run all tests; ONLY="unit integration" names tiers, FILES="test_node_life" files of integration
#   make bench   figures side by side with LXD, the latency of the API, the firewall, the storage, kits
#   make install put the programs, units and manuals into the system
BUILD := build/release
MAKEFLAGS += --no-print-directory
# Wherever the caller has programs, those of the system are found, and first.
export PATH := /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$(PATH)

.PHONY: help build run check bench install clean

help:
	@sed -n 's/^#   //p' Makefile

build:
	@setup/install build
	@[ -f $(BUILD)/build.ninja ] || cmake --preset release > /dev/null
	@cmake --build $(BUILD) -- --quiet

run: build
	@setup/install run image demo
	@tests/demo/run --build $(BUILD)

check: build
	@setup/install run image test vm
	@tests/check --build $(BUILD) $(ONLY:%=--only %) $(FILES:%=--files %)

bench: build
	@setup/install run image test bench
	@bench/run --build $(BUILD)
	@bench/latency --build $(BUILD)
	@bench/firewall --build $(BUILD)
	@bench/storage --build $(BUILD)
	@bench/kits --build $(BUILD)
	@bench/pool --build $(BUILD)

install: build
	@umask 022 && cmake --install $(BUILD)

clean:
	@rm -rf build
