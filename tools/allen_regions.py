"""Write the table of brain regions, spikeinterface_nuclr/decoding/allen_regions.csv.

    pip install iblatlas
    python tools/allen_regions.py

Structures and their parents are from the Allen Mouse Brain Common Coordinate Framework, version 3 (Wang et al. 2020,
Cell 181:936; (c) Allen Institute for Brain Science, brain-map.org). The Beryl and Cosmos levels are those of the
brain-wide map of the International Brain Laboratory. All are read from the files of its package iblatlas.
"""

import csv
from importlib.metadata import distribution, version
from pathlib import Path

import numpy as np

TABLE = Path(__file__).parents[1] / "spikeinterface_nuclr" / "decoding" / "allen_regions.csv"


def main():
    folder = Path(distribution("iblatlas").locate_file("iblatlas"))
    with open(folder / "allen_structure_tree.csv", newline="", encoding="utf-8") as file:
        structures = {int(row["id"]): row for row in csv.DictReader(file)}
    levels = [set(np.load(folder / f"{name}.npy").ravel().tolist()) for name in ("beryl", "cosmos")]

    def ancestors(number: int) -> list[int]:
        path = [number]
        while structures[path[-1]]["parent_structure_id"]:
            path.append(int(float(structures[path[-1]]["parent_structure_id"])))
        return path

    def acronym(numbers) -> str:
        return next((structures[number]["acronym"] for number in numbers), "")

    with open(TABLE, "w", newline="", encoding="utf-8") as file:
        file.write(f"# Allen CCF v3 and the Beryl and Cosmos levels, by iblatlas {version('iblatlas')}; ")
        file.write("written by tools/allen_regions.py\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["acronym", "parent", "beryl", "cosmos"])
        for number, row in structures.items():
            path = ancestors(number)
            at_levels = [acronym(a for a in path if a in level) for level in levels]
            writer.writerow([row["acronym"], acronym(path[1:2]), *at_levels])


if __name__ == "__main__":
    main()
