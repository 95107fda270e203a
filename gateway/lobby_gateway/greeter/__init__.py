"""The greeter process: accepts every new client and gets it a seat in an open lobby."""
