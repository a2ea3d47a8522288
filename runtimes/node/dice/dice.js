// Roll dice: a handler (entry dice.roll), and what test.js calls.
"use strict";

const { randomInt } = require("crypto");
const { face } = require("dice-faces");

const MOST_DICE = 1000;

/** Return what each of the dice shows; throw a RangeError if the text is no roll. */
exports.roll = ({ roll, faces = false }) => {
  const match = /^([0-9]{1,4})d([0-9]{1,7})$/.exec(roll);
  if (!match) throw new RangeError(`"roll" must look like "4d6", not ${JSON.stringify(roll)}`);
  const [dice, sides] = match.slice(1).map(Number);
  if (dice < 1 || dice > MOST_DICE) throw new RangeError(`roll 1 to ${MOST_DICE} dice`);
  if (sides < 1) throw new RangeError("dice have a side at least");
  const shown = Array.from({ length: dice }, () => randomInt(1, sides + 1));
  return faces && sides <= 6 ? shown.map(face).join(" ") : shown;
};
