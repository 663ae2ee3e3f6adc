/**
 * The numbered scenarios that the tests show, each in a few words of our own, and the reader that
 * finds which test carries which number.
 *
 * The convention: the name of a test, or of the `describe` around it, begins with the numbers and a
 * colon, as in `"B5: a hung open ..."` and `"C4, C5: ten waiters ..."`. Where names are made in a
 * loop, the piece of text that begins the name does: in `it(`${name} changes nothing`)` the names of
 * the table begin so.
 */

/** What must hold, by number. */
export const scenarios: Readonly<Record<string, string>> = {
  // Interruption.
  A1: "a waiter interrupted in the step in which it was given its item passes it on",
  A2: "a waiter interrupted while asleep leaves at once and uses up no hand-over",
  A3: "a waiter that was woken and is interrupted before it runs wakes the next",
  A4: "an open outlives its borrower, and its item serves the next or is idle",
  A5: "an open interrupted between acquire and registration is released exactly once",
  A6: "interruption during a check loses no item",
  A7: "interruption during a reset ends the item, frees its slot and serves a waiter",
  A8: "an item that is opened too late for its borrower is idle, or closed",
  A9: "of nine borrowers of three items, all cancelled, nothing is left but three idle items",
  A10: "a borrower that is interrupted already counts nothing and opens nothing",
  A11: "borrowers that give up in a hot loop starve nobody",
  A12: "a borrow that cannot be interrupted still ends by its time",
  A13: "what a borrower throws is its own, and the item comes back",
  A14: "a storm of interruptions costs each waiter once and leaves nothing",
  A15: "a cancelled statement's slot is not used again before the cancel is confirmed",
  A16: "an uninterruptible borrower does not make its open uninterruptible",
  // Opens that fail.
  B1: "when every open fails each waiter ends by its time with the cause, without a spin",
  B2: "more waiters than max, and every open fails: each is answered",
  B3: "a failed open while other items circulate",
  B4: "one hung open holds up no other",
  B5: "an open beyond its time frees its slot, and its late item is closed",
  B6: "a failed open takes no capacity",
  B7: "failed opens are tried again with backoff, set back by a success, while returns serve waiters",
  B8: "down at the start and up later: min is reached with nobody asking",
  B9: "how a pool starts is a choice",
  B10: "an open that dies is a failed open",
  B11: "a hook after acquire that fails, or leaves something open, is a failed open",
  B12: "a failure from before a success is shown to nobody after it",
  B13: "a timeout tells a busy pool from failing opens",
  B14: "a thousand waiters in an outage cost no more than one",
  B15: "demand that has gone is not opened for",
  B16: "no waiter has two opens",
  B17: "acquire is evaluated anew for each open",
  // Releases that fail or hang.
  C1: "a release that fails is logged once, frees its slot and changes nothing for the borrower",
  C2: "a release that hangs delays no borrower and is abandoned in its time",
  C3: "slow releases run side by side and block neither sweeps nor borrows nor the closing",
  C4: "a broken item that comes back lets a waiter have another",
  C5: "several broken ones in a row starve nobody",
  C6: "an item whose reset fails or hangs is never lent again",
  C7: "how a lease ended decides by rules whether its item stays",
  C8: "leases that end out of order and elsewhere are counted exactly",
  C9: "an item that comes back too old is closed, and replaced only when it is needed",
  C10: "a listener that fails stops nobody",
  // The closing of a pool.
  D1: "waiters of a pool that closes fail at once, typed",
  D2: "a closed pool refuses at once and arms nothing",
  D3: "leases get drainTimeout and then lose their items, which is told",
  D4: "an open that is under way delays the closing by its deadline at most",
  D5: "what comes back during or after the closing is closed",
  D6: "closing twice closes each item once",
  D7: "a closing that is interrupted goes on",
  D8: "a lease in a scope that outlives the pool is no deadlock",
  D9: "a closed pool leaves no fiber, no timer and no socket",
  D10: "a pool that is slow to close delays no other",
  D11: "background work stops before items are closed, and nothing is opened after the closing began",
  D12: "a pool that is closed before its first fill leaves nothing",
  D13: "what runs in a lease ends before the pool does",
  // Resizing and invalidation.
  E1: "an invalidated item that is lent holds its slot until it comes back",
  E2: "when all items were invalidated a new one serves",
  E3: "invalidated and returned at once, an item is closed once",
  E4: "invalidated twice, by equal value or by a foreign one: the lease decides, or nothing changes",
  E5: "of a sweep and a borrower that want one item in one instant, one wins",
  E6: "what a sweep frees serves those who wait",
  E7: "a max below what is lent stops lending and closes the surplus on return",
  E8: "a larger max serves those who wait at once",
  E9: "a clear over a time replaces every item, spread over it",
  E10: "items opened together do not all end together",
  E11: "the longest life is kept when an item is lent, too",
  E12: "idle rules keep min, and the coldest go first",
  E13: "a failure in a sweep does not end the sweeps",
  E14: "a suspended pool makes borrowers wait, and resume serves them in order",
  E15: "nothing is kept of items that are gone",
  E16: "a min that cannot be reached makes no hot loop",
  // Keyed pools.
  F1: "an exhausted key blocks no other",
  F2: "at the total the coldest idle item of another key makes room",
  F3: "what one key frees serves waiters of another",
  F4: "a key that goes while a borrower comes is made anew",
  F5: "a failed open of a key gives its place back",
  F6: "a key of which nothing is left is forgotten",
  F7: "invalidation touches one key alone",
  F8: "keys are served in the order of arrival, and none starves",
  F9: "the failures of one key back off no other",
  F10: "the total bounds what is lent",
  F11: "fibers that wait for one another at the total end by their time",
  // Time.
  G1: "the wall clock set back changes no deadline",
  G2: "the wall clock set forward changes no deadline",
  G3: "after a sleep of the machine idle items are checked before they are lent, a few opens at a time",
  G4: "a stall of the event loop is one late tick, and no error of its own",
  G5: "times of zero, of Infinity and beyond 2^31 milliseconds are what they say",
  G6: "a timer that wakes early is set again for the rest",
  G7: "idle items end never early and at most one tick late",
  G8: "a timer of an old lease does nothing to the next",
  G9: "the same seed gives the same trace",
  G10: "after a long time with nothing to do a new deadline is met",
  // PostgreSQL.
  H1: "a server that is down at the start: a typed failure by its time, then a pool that refills alone",
  H2: "a session killed while idle is not lent",
  H3: "all idle sessions killed: replaced without a user's error",
  H4: "a session killed while lent fails its statement, goes, and the next waiter is served",
  H5: "a restart under load is recovered from, with bounded attempts",
  H6: "a server that is starting up is waited for",
  H7: "a stopped session fails its check in time and frees its slot",
  H8: "a silent network: borrows end by their time, and the pool recovers",
  H9: "a silent connect holds up no other",
  H10: "a half-open connection is found before it is lent",
  H11: "sessions that the server ends when idle make no storm of connects",
  H12: "a server with fewer sessions than max makes borrowers queue",
  H13: "old sessions are replaced without one more than the server allows",
  H14: "wrong credentials are told at once and not tried again",
  H15: "a spike over slow connects is served by the sessions there are",
  H16: "a failover recycles the sessions of the old server; names are resolved for each connect",
  H17: "an open transaction does not pass to the next borrower",
  H18: "a failed transaction does not pass to the next borrower",
  H19: "a rollback that fails or hangs ends the session",
  H20: "a session that comes back busy ends, or is waited for within its time",
  H21: "settings and roles do not pass, as the reset level says",
  H22: "locks, temporary tables and listeners do not pass, as the reset level says",
  H23: "a late cancel request hits nobody else",
  H24: "a session whose protocol is half read is not pooled",
  H25: "an error on a socket after its end is never uncaught",
  H26: "closing over dead peers leaves no socket",
  // Options.
  I1: "min or max NaN",
  I2: "negative sizes and times",
  I3: "max 0",
  I4: "min above max",
  I5: "fractional sizes",
  I6: "max Infinity when asked for, min Infinity never",
  I7: "concurrency 0, negative, NaN or Infinity",
  I8: "times of 0, NaN and Infinity have one meaning each",
  I9: "an idle limit beyond the age limit",
  I10: "a key that is no option",
  I11: "a sweep Schedule that ends is told of",
  I12: "a predicate that throws or never ends recycles",
  // Errors of users.
  J1: "a lease ends once",
  J2: "use after the return",
  J3: "a lease that is held too long is told of",
  J4: "a longest lease is kept, and the late return harms nobody",
  J5: "a foreign item changes nothing",
  J6: "a borrow inside a borrow fails by its time, with a hint",
  J7: "a lease that escapes its scope",
  J8: "too many waiters fail at once",
  J9: "equal items are different items",
  J10: "nothing escapes from the pool as an unhandled rejection",
  J11: "a layer built twice is one pool",
  // Turns and contexts.
  K1: "100,000 waiters overflow no stack",
  K2: "a return in a finalizer hands over in that step",
  K3: "an idle item is borrowed without an asynchronous step, from any runtime",
  K4: "every invariant holds whatever the scheduler and its yields",
  K5: "the pool's work has the pool's context, and no borrower's"
}

const numbers = /^((?:[A-K]\d{1,2}, )*[A-K]\d{1,2}):\s/

/** A piece of text in a source, and whether it is the first argument of a test that is not to run. */
const texts = /(\b(?:it|describe)\.(?:skip|todo|fails)\b[^(]*\(\s*)?(["'`])((?:\\.|(?!\2)[^\\])*)\2/gsu

/** The numbers that the names of a test file begin with. Line comments and tests that do not run do not count. */
export const numbersIn = (source: string): ReadonlyArray<string> => {
  const found = new Set<string>()
  for (const line of source.split("\n")) {
    if (/^\s*(\/\/|\*|\/\*)/.test(line)) continue
    for (const [, off, , text] of line.matchAll(texts)) {
      const named = off === undefined ? numbers.exec(text!) : null
      for (const number of named?.[1]!.split(", ") ?? []) found.add(number)
    }
  }
  return [...found]
}
