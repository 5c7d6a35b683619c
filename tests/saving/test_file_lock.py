"""Reading, changing and writing a file is one step for whoever asks for the lock."""

import threading

from quickstudy.saving.file_lock import changing


def test_threads_wait_for_each_other_and_nothing_is_left(tmp_path):
    path = tmp_path / "count"
    path.write_text("0")
    (tmp_path / "link").symlink_to(path)

    def add(name):
        for _ in range(20):
            with changing(tmp_path / name):
                path.write_text(str(int(path.read_text()) + 1))

    threads = [threading.Thread(target=add, args=[name]) for name in ("count", "link") * 2]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert path.read_text() == "80"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["count", "link"]


def test_a_thread_may_enter_again_and_the_lock_holds_until_it_has_left_all(tmp_path):
    path = tmp_path / "file"
    refused = []

    def other():
        try:
            with changing(path, most_seconds=0.1):
                pass
        except ValueError as error:
            refused.append(str(error))

    with changing(path):
        with changing(path):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "locked by another process" in refused[0]
    with changing(path, most_seconds=0.1):
        pass
