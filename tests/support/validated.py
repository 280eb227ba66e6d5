# SPDX-License-Identifier: Apache-2.0
"""A plugin that tests/run gives to pytest: every reply that a test gets is checked against docs/openapi.yaml. Here and not in
daemon.py, because the demonstration and the benchmarks use that without the packages that the check needs."""
import daemon
import openapi

daemon.Daemon.judge = staticmethod(openapi.check)
