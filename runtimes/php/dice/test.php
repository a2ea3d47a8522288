<?php
// As a script: params on stdin, the result on stdout.
require __DIR__ . "/dice.php";

$params = json_decode(file_get_contents("php://stdin"), true, 512, JSON_THROW_ON_ERROR);
echo json_encode(roll($params["roll"] ?? "")), "\n";
