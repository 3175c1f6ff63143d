"""The table of misbehaviours, a module for each place where one can lie; `lab.evil.table` lists them."""
