"""What the electron beam does to the specimen: knock-on, absorbed dose, radiolysis."""
