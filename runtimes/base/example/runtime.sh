#!/bin/sh
exec awk -f main.awk
