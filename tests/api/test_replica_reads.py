"""Both services over a SQL store with a read replica: no answer is older than what was acknowledged, whatever dies."""

import asyncio
from pathlib import Path
from typing import Any

from tests.api.conftest import Stack, run_stack
from tests.sql_servers import Mariadbd, mariadb_with_replica, own_database


def result(number: int) -> dict[str, Any]:
    question = {"question_id": "q1", "score": 1.0, "metadata": {"subject": "Algebra", "level": number}}
    return {
        "run_id": f"r{number}",
        "benchmark_name": "math500",
        "timestamp": f"2024-01-01T00:00:{number:02}Z",
        "model_id": "gpt-4",
        "source": "test",
        "data": {"questions": [question]},
    }


async def runs_seen(stack: Stack, number: int) -> int:
    """How many runs an answer is made of; another `number` makes it another question, which is not answered yet."""
    filters = {"level": [*range(1, 20), 100 + number]}
    answer = await stack.analyze(benchmark="math500", level1="run", runs="all", filters=filters)
    assert answer.status_code == 200, answer.text
    return len(answer.json()["rows"])


async def replica(stack: Stack) -> dict[str, Any]:
    [told] = (await stack.analysis.get("/health")).json()["replicas"]
    return dict(told)


async def used(stack: Stack, server: Mariadbd) -> None:
    """Wait until reads go to the replica."""
    async with asyncio.timeout(30):
        while not (await replica(stack))["used"]:
            await asyncio.sleep(0.01)
    assert (await replica(stack))["host"] == f"127.0.0.1:{server.port}"


async def test_answers_are_new_and_go_on(mongo_url: str, mongo_database: str, tmp_path: Path) -> None:
    with mariadb_with_replica(tmp_path) as (primary, follower), own_database(primary.address) as address:
        changes: dict[str, Any] = {
            "analysis_store": "mysql",
            "mysql_host": address.host,
            "mysql_port": address.port,
            "mysql_user": address.user,
            "mysql_password": address.password,
            "mysql_database": address.database,
            "mysql_read_hosts": f"127.0.0.1:{follower.port}",
            "mysql_read_retry_s": 0.2,
        }
        async with run_stack(mongo_url, mongo_database, tmp_path / "none", **changes) as stack:
            database = stack.app.state.reader.database
            await used(stack, follower)
            for number in range(1, 13):
                match number:
                    case 4:
                        follower.run("STOP SLAVE SQL_THREAD")
                    case 6:
                        follower.run("START SLAVE SQL_THREAD")
                    case 8:
                        follower.kill()
                    case 10:
                        follower.start()
                await stack.push(result(number))
                seen = await asyncio.gather(*(runs_seen(stack, number * 10 + turn) for turn in range(5)))
                assert seen == [number] * 5
                if number in (3, 7, 12):
                    await used(stack, follower)
                    before = database.hosts()[1].snapshots
                    async with asyncio.timeout(30):
                        turn = 0
                        while database.hosts()[1].snapshots == before:
                            assert await runs_seen(stack, number * 1000 + turn) == number
                            turn += 1
