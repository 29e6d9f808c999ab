"""A server hears that it shall end, whichever thread is told, and however early."""

import signal
import threading
import time

import pytest

from offloading.runtime.serve_process import heeding

NUMBER = signal.SIGUSR1


@pytest.fixture
def wait():
    before = signal.getsignal(NUMBER)
    yield heeding(NUMBER)
    signal.signal(NUMBER, before)


def test_a_signal_before_the_wait_ends_it(wait):
    signal.raise_signal(NUMBER)
    wait()


def test_a_signal_to_another_thread_ends_the_wait_of_the_main_one(wait):
    main = threading.get_ident()

    def tell():
        time.sleep(0.05)  # most likely the main thread waits by now; if not, it is the test above
        signal.pthread_kill(threading.get_ident(), NUMBER)

    thread = threading.Thread(target=tell)
    thread.start()
    # Were it not heard, this one would end the wait of any implementation, but not be the first.
    rescue = threading.Timer(30.0, signal.pthread_kill, (main, NUMBER))
    rescue.start()
    wait()
    assert rescue.is_alive(), "only a signal to the main thread was heard"
    rescue.cancel()
    thread.join()
