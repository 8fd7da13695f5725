//! The nearest city of a pair of coordinates, of the 33,000 with more than 15,000 people (GeoNames, CC BY 4.0; `cities.md` says how the
//! list was made).

use std::io::Read;
use std::sync::LazyLock;

use wire::location::Location;

/// Latitude, longitude, country, time zone, region, name: a line each, from the south to the north.
const PACKED: &[u8] = include_bytes!("cities.tsv.gz");
/// What is farther away from every city lies in none.
const DISTANCE_KM_MAX: f64 = 100.0;
const EARTH_RADIUS_KM: f64 = 6371.0;

struct Cities {
    text: String,
    /// From the south to the north.
    places: Vec<City>,
}

struct City {
    latitude: f64,
    longitude: f64,
    /// Where the rest of its line begins in the text.
    rest: usize,
}

/// Unpacked when the first coordinates come: most servers never see any.
static CITIES: LazyLock<Cities> = LazyLock::new(|| {
    let mut text = String::new();
    flate2::read::GzDecoder::new(PACKED).read_to_string(&mut text).expect("the compiled-in list unpacks");
    let mut places = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let (latitude, longitude, rest) = split(line);
        places.push(City { latitude, longitude, rest: at + line.len() - rest.len() });
        at += line.len();
    }
    Cities { text, places }
});

fn split(line: &str) -> (f64, f64, &str) {
    let mut fields = line.splitn(3, '\t');
    let mut next = || fields.next().expect("every line of the compiled-in list has its fields");
    let degrees = |text: &str| text.parse().expect("the compiled-in list has degrees");
    (degrees(next()), degrees(next()), next())
}

/// The place of the nearest city, where one is near.
pub(super) fn nearest(latitude: f64, longitude: f64) -> Option<Location> {
    let Cities { text, places } = &*CITIES;
    let middle = places.partition_point(|city| city.latitude < latitude);
    let (mut best, mut best_km) = (None, DISTANCE_KM_MAX);
    // Away from the latitude in both directions, until latitude alone is too far.
    for walk in [&mut places[middle..].iter() as &mut dyn Iterator<Item = &City>, &mut places[..middle].iter().rev()] {
        for city in walk {
            if (city.latitude - latitude).abs().to_radians() * EARTH_RADIUS_KM >= best_km {
                break;
            }
            let km = distance_km((latitude, longitude), (city.latitude, city.longitude));
            if km < best_km {
                (best, best_km) = (Some(city), km);
            }
        }
    }
    let line = text[best?.rest..].lines().next()?;
    let mut fields = line.split('\t').map(|field| Some(field.to_owned()).filter(|field| !field.is_empty()));
    let mut next = || fields.next().flatten();
    let (country_code, timezone, region, city) = (next(), next(), next(), next());
    Some(Location { city, region, country_code, timezone })
}

/// Along the surface of the earth.
fn distance_km((latitude, longitude): (f64, f64), (other_latitude, other_longitude): (f64, f64)) -> f64 {
    let half_sine = |a: f64, b: f64| ((a - b).to_radians() / 2.0).sin().powi(2);
    let across = latitude.to_radians().cos() * other_latitude.to_radians().cos() * half_sine(longitude, other_longitude);
    2.0 * EARTH_RADIUS_KM * (half_sine(latitude, other_latitude) + across).sqrt().min(1.0).asin()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(latitude: f64, longitude: f64, expected: &str) {
        let place = nearest(latitude, longitude).unwrap_or_default();
        let text = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let fields = [place.city, place.region, place.country_code, place.timezone].map(text);
        assert_eq!(fields.join("|"), expected, "{latitude} {longitude}");
    }

    #[test]
    fn coordinates_lie_in_the_nearest_city() {
        check(37.77, -122.42, "San Francisco|California|US|America/Los_Angeles");
        check(52.52, 13.40, "Berlin|State of Berlin|DE|Europe/Berlin");
        check(-33.87, 151.21, "Sydney|New South Wales|AU|Australia/Sydney");
    }

    #[test]
    fn the_date_line_parts_nothing() {
        check(-16.79, -179.98, "Labasa|Northern|FJ|Pacific/Fiji");
    }

    #[test]
    fn the_open_sea_is_no_city() {
        check(0.0, 0.0, "-|-|-|-");
        check(90.0, 0.0, "-|-|-|-");
        check(-90.0, 180.0, "-|-|-|-");
    }

    /// The walk ends early; every city answers as if it did not.
    #[test]
    fn every_city_is_its_own_nearest() {
        let Cities { places, .. } = &*CITIES;
        assert!(places.len() > 30_000 && places.is_sorted_by(|a, b| a.latitude <= b.latitude));
        for city in places.iter().step_by(97) {
            let (latitude, longitude) = ((city.latitude + 0.1).min(90.0), city.longitude + 0.1);
            let km = |other: &City| distance_km((latitude, longitude), (other.latitude, other.longitude));
            let nearest_of_all = places.iter().min_by(|a, b| km(a).total_cmp(&km(b))).unwrap();
            let line = CITIES.text[nearest_of_all.rest..].lines().next().unwrap();
            assert_eq!(nearest(latitude, longitude).unwrap().city.as_deref(), line.rsplit('\t').next());
        }
    }
}
