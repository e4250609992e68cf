: # nothing beside what every workstation has
