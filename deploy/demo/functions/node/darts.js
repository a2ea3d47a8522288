// As functions/python, in JavaScript: darts at a square, and how many are in its circle.
"use strict";

const { setTimeout: sleep } = require("timers/promises");

// Numbers from a seed, which Math.random does not take: a linear congruential generator.
function generator(seed) {
  let state = Math.imul(seed + 1, 2654435769);
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

exports.main = async ({ darts, seed, pause }) => {
  const thrown = generator(seed);
  let hits = 0;
  for (let dart = 0; dart < darts; dart++) {
    if (thrown() ** 2 + thrown() ** 2 < 1) hits++;
  }
  await sleep(pause * 1000);
  return { darts, hits };
};
