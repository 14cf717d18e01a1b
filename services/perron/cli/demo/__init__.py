"""The demo: plays the platform on recorded exchanges and checks every claim from the answers it gets.

A chapter is a module with a NAME, the `settings(folder)` that the suite needs for it and a `play(stage)`; it
tells what it does on the stage and puts down a finding for each clause that it showed. No finding is written
by hand as fulfilled: each is a comparison made on the spot. A chapter that cannot be played here leaves its
rows out, and says so.
"""
