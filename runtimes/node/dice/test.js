// As a script: params on stdin, the result on stdout.
"use strict";

const { readFileSync } = require("fs");
const { roll } = require("./dice");

console.log(JSON.stringify(roll(JSON.parse(readFileSync(0, "utf8")))));
