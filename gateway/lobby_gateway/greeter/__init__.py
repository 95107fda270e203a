"""The greeter process: takes every new client to a seat in an open lobby."""
