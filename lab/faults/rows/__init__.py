"""The rows of the campaign, a module for each kind of fault; `lab.faults.campaign.ROWS` lists them."""
