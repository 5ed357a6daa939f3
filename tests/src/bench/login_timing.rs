//! Whether the time of a refused login says that there is such an account: the two distributions, tried by turns, and how far they are
//! apart.

use std::time::{Duration, Instant};

use super::logins::{address, costly_world, login, login_method, people};
use super::report::{Latencies, Report};
use super::wire::{Connection, frame};

/// How often each is tried.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How often with handles that nobody has, and as often with a wrong password
    #[arg(long, default_value_t = 200)]
    tries: usize,
}

pub(super) async fn run(options: Options) -> Result<Report, String> {
    let world = costly_world().try_start().await?;
    // Another account each time, so that no delay for wrong passwords shows.
    let known = people(&world, options.tries).await;
    let mut connection = Connection::open(address(&world)?).await?;
    let method = login_method();
    let mut refused = async |handle: &str| -> Result<Duration, String> {
        let request = frame(&login(handle, "wrong marbles sing in May"));
        let began = Instant::now();
        match connection.call(&method, request).await {
            Err(error) if error.contains("\"16\"") => Ok(began.elapsed()),
            other => Err(format!("not refused as a wrong password is: {other:?}")),
        }
    };
    let unknown = || format!("bench-{}", crate::unique());
    for _ in 0..20 {
        refused(&unknown()).await?;
    }
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for person in &known {
        // By turns, and either first as often, so that whatever else the machine does meets both.
        let known_first: bool = rand::random();
        if known_first {
            with.push(refused(&person.handle).await?);
        }
        without.push(refused(&unknown()).await?);
        if !known_first {
            with.push(refused(&person.handle).await?);
        }
    }
    let mut report = Report::new("refused logins: is there such an account?");
    for (name, times) in [("unknown handle", &without), ("known handle, wrong password", &with)] {
        let mut latencies = Latencies::new();
        times.iter().for_each(|time| latencies.add(*time));
        report.latencies(name, &latencies);
    }
    let apart = Apart::of(&with, &without);
    report.figure("Kolmogorov-Smirnov distance", apart.distance, "of 1");
    report.figure("as far apart by chance", 100.0 * apart.chance, "% of the time");
    report.figure("right guesses by one time", 100.0 * apart.guess, "%, where a coin has 50");
    Ok(report)
}

/// How far two samples are apart.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Apart {
    /// The greatest distance of their distribution functions (Kolmogorov and Smirnov).
    distance: f64,
    /// How likely two samples of one distribution are that far apart.
    chance: f64,
    /// How often the slower one of a pair is of the first sample or of the second, whichever is more (the U of Mann and Whitney).
    guess: f64,
}

impl Apart {
    fn of(one: &[Duration], other: &[Duration]) -> Self {
        let (mut one, mut other) = (one.to_vec(), other.to_vec());
        one.sort_unstable();
        other.sort_unstable();
        let share =
            |of: &[Duration], up_to: Duration| of.partition_point(|time| *time <= up_to) as f64 / of.len() as f64;
        let all = one.iter().chain(&other);
        let distance = all.map(|time| (share(&one, *time) - share(&other, *time)).abs()).fold(0.0, f64::max);
        let (n, m) = (one.len() as f64, other.len() as f64);
        let root = (n * m / (n + m)).sqrt();
        let chance = kolmogorov((root + 0.12 + 0.11 / root) * distance);
        // One that is as slow counts for half.
        let slower = |time: &Duration| {
            let (below, through) =
                (other.partition_point(|than| than < time), other.partition_point(|than| than <= time));
            (below + through) as f64 / 2.0
        };
        let u = one.iter().map(slower).sum::<f64>() / (n * m);
        Self { distance, chance, guess: u.max(1.0 - u) }
    }
}

/// How likely a scaled distance is at least `x`: the limit that Kolmogorov has found, with Stephens's correction for small samples in `x`.
fn kolmogorov(x: f64) -> f64 {
    if x < 0.2 {
        return 1.0;
    }
    let term = |k: i32| 2.0 * (-1.0_f64).powi(k - 1) * (-2.0 * f64::from(k * k) * x * x).exp();
    (1..=100).map(term).sum::<f64>().clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(times: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        times.into_iter().map(Duration::from_micros).collect()
    }

    #[test]
    fn the_same_is_not_apart_and_what_is_shifted_is() {
        let one = micros((0..200).map(|number| 10_000 + number * 10));
        let same = Apart::of(&one, &one);
        assert_eq!((same.distance, same.chance, same.guess), (0.0, 1.0, 0.5));
        let far = Apart::of(&one, &micros((0..200).map(|number| 20_000 + number * 10)));
        assert!(far.distance == 1.0 && far.chance < 1e-6 && far.guess == 1.0, "{far:?}");
        // A quarter of a millisecond is an eighth of the width: half of the way to being noticed.
        let near = Apart::of(&one, &micros((0..200).map(|number| 10_250 + number * 10)));
        assert!((0.1..0.15).contains(&near.distance) && (0.03..0.15).contains(&near.chance), "{near:?}");
    }

    #[test]
    fn the_limit_is_the_known_one() {
        for (x, chance) in [(1.358, 0.05), (1.628, 0.01), (0.828, 0.5)] {
            assert!((kolmogorov(x) - chance).abs() < 0.001, "{x}");
        }
    }
}
