<?php
// Roll dice: a handler (entry dice.roll), and what test.php calls.
declare(strict_types=1);

const MOST_DICE = 1000;

/** Return what each of the dice shows; throw a ValueError if the text is no roll. */
function roll(string $roll): array
{
    if (!preg_match('/^([0-9]{1,4})d([0-9]{1,7})\z/', $roll, $match)) {
        throw new ValueError("\"roll\" must look like \"4d6\", not \"$roll\"");
    }
    [, $dice, $sides] = array_map("intval", $match);
    if ($dice < 1 || $dice > MOST_DICE || $sides < 1) {
        throw new ValueError("roll 1 to " . MOST_DICE . " dice that have a side at least");
    }
    return array_map(fn () => random_int(1, $sides), range(1, $dice));
}
