"""The cases of simulated_response.py run in processes of their own: tests/simulated_gpu.py."""

from simulated_gpu import (  # noqa: F401
    pytest_collect_file,
    pytest_generate_tests,
    pytest_pyfunc_call,
    pytest_runtest_logreport,
)
