import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).parents[2] / "hostile_daemon.py"), run_name="__main__")
