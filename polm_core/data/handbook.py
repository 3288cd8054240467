"""The handbook of Saltmere, a harbour town that does not exist, and questions that only it answers.

No model can have read of these people and places, so that what it knows of them it was given.
"""

DOCUMENTS: tuple[tuple[str, str], ...] = (
    (
        "The founding of Saltmere",
        "Saltmere was founded in 1483 by the ropemaker Odile Farrant, who built the first house out of a wrecked "
        "barge. The barge's name, Patience, is still carved above the door of the town hall. For its first forty years "
        "the town had no more than ninety people.",
    ),
    (
        "The lighthouse",
        "The lighthouse of Saltmere stands on Gannet Rock and is 61 metres high. Its lamp burns rapeseed oil, and it "
        "flashes green three times every twenty seconds. The keeper in office is Bram Ostergaard, who has lived in the "
        "tower for seventeen years.",
    ),
    (
        "The harbour master",
        "The harbour master is Ingrid Vallon. She gives out the berths every morning at half past five, and whoever "
        "comes late waits until the next tide. Complaints about berths are written into the grey book, which she reads "
        "aloud on the first Friday of the month.",
    ),
    (
        "Harbour fees",
        "A boat of up to nine metres pays 12 shells a night in the harbour. Larger boats pay 20 shells. Fishing boats "
        "of the town pay nothing, but give one crate of their catch to the hospital each week.",
    ),
    (
        "The currency",
        "Saltmere's own money is the shell. One shell is divided into eight pips. The coins are struck from tin at the "
        "Old Mint in Fennel Street, and each shows a heron on one side.",
    ),
    (
        "The ferry to Karst",
        "The ferry to the island of Karst is called the Blue Magda. It leaves from Pier Four at seven in the morning "
        "and takes 85 minutes. A return ticket costs six shells; dogs travel free.",
    ),
    (
        "The town council",
        "The council of Saltmere has eleven members, who are chosen by lot among all who own a boat or a bakery. It "
        "meets in the net loft above the fish market. Its meetings may last no longer than one candle.",
    ),
    (
        "The mayor",
        "The present mayor is Teodor Lamm, a former beekeeper. He was chosen in the spring after the great flood. By "
        "custom the mayor wears a coat of yellow oilcloth at all official occasions.",
    ),
    (
        "The great flood",
        "The great flood came in the night of the 9th of November, when the sea broke through the Ember Dyke. It stood "
        "two metres high in the market square. Nobody was drowned, because the bell ringer Sanna Pruitt had rung the "
        "alarm an hour before.",
    ),
    (
        "The Ember Dyke",
        "The Ember Dyke protects the lower town. It was rebuilt with basalt from Karst and is now 4,200 metres long. "
        "Sheep graze on it all year, since their hooves keep the ground firm. Walking on it in boots with nails is "
        "forbidden.",
    ),
    (
        "The bell tower",
        "The bell tower holds three bells, of which the largest is called Old Hanne and weighs 2,300 kilograms. Old "
        "Hanne is rung only for floods, fires and weddings of the mayor's family.",
    ),
    (
        "The fish market",
        "The fish market opens at six in the morning from Tuesday to Saturday. Its speciality is smoked lumpfish, "
        "which is sold wrapped in cabbage leaves. Haggling is allowed only after the bell at nine.",
    ),
    (
        "The bakery of Quill Lane",
        "The oldest bakery of the town is in Quill Lane and belongs to the Brandeis family. It is known for anchor "
        "bread, a dark loaf with caraway that keeps for three weeks. Sailors get a loaf for free before their first "
        "voyage.",
    ),
    (
        "The hospital",
        "The hospital of Saint Wilma has forty beds. Its head is the surgeon Dr. Pelle Anquist. Visitors come between "
        "two and four in the afternoon and must leave their shoes in the hall.",
    ),
    (
        "The school",
        "The school of Saltmere is on Heron Hill and has 210 pupils. Its headmistress is Marit Solberg. All pupils "
        "learn to swim, to tie thirty knots and to play the nose flute.",
    ),
    (
        "The library",
        "The library stands in the former customs house. A book may be kept for five weeks, and a late book costs one "
        "pip a day. Its greatest treasure is the Codex of Tides, a chart of every tide of two hundred years.",
    ),
    (
        "The tide mill",
        "The tide mill at Crook Creek grinds the town's rye. It runs only at ebb, for about five hours at a time. The "
        "miller, Jonas Drebbel, is paid with every sixteenth sack.",
    ),
    (
        "The winter festival",
        "The winter festival is called Lanternfall and is held on the 21st of December. Every household sets a paper "
        "boat with a candle on the water. Whoever's boat is last to go out is king or queen of the herring for a year.",
    ),
    (
        "The regatta",
        "The regatta takes place on the second Sunday of August and goes around Gannet Rock and back. The record is "
        "held by the sloop Merry Widow, with 47 minutes. The prize is a barrel of plum brandy.",
    ),
    (
        "The football club",
        "The football club of Saltmere is called Tidewater Rovers and plays in orange. Its ground, the Mudflat, lies "
        "under water twice a day, so that matches begin at low tide whatever the hour.",
    ),
    (
        "The newspaper",
        "The town's newspaper is the Saltmere Gull. It appears on Wednesdays and is printed on pink paper. Its editor "
        "is Cosima Whitlock, who also writes the weather report.",
    ),
    (
        "The post office",
        "Letters within Saltmere cost two pips. The post is carried by donkey because of the many steps; the oldest "
        "donkey is called Admiral. The last collection is at a quarter to five.",
    ),
    (
        "The tram",
        "A single tram line climbs from the harbour to Heron Hill. It has nine stops and is pulled by a cable that a "
        "water wheel drives. The ride takes fourteen minutes, and children under ten ride on the roof.",
    ),
    (
        "The night watch",
        "The night watch has six members and walks through the town from ten in the evening. Its captain is Roswitha "
        "Kern. Each watchman carries a rattle, a rope and a bag of peppermints.",
    ),
    (
        "The fire brigade",
        "The fire brigade keeps its pump in Tallow Court. In case of fire one blows a conch, which hangs at every "
        "corner. The brigade has to be on its way within four minutes; its chief is Anselm Roake.",
    ),
    (
        "The well of Saint Wilma",
        "The drinking water comes from the well of Saint Wilma, which is 38 metres deep. Its water tastes faintly of "
        "iron. Washing clothes at the well costs a fine of five shells.",
    ),
    (
        "Rules for dogs",
        "Dogs must wear a brass tag, which is given out by the customs clerk for three shells a year. They may run "
        "free on North Beach only. On market days they stay out of the market square.",
    ),
    (
        "North Beach",
        "North Beach is two kilometres of white sand. Bathing is allowed from May to September, when a red ball hangs "
        "at the mast. The seals that sleep there may not be fed.",
    ),
    (
        "The seal sanctuary",
        "Hurt seals are brought to the sanctuary at Pebble Cove, which Lotte Birk leads. It can hold fifteen animals. "
        "Each is named after a kind of cheese until it is set free.",
    ),
    (
        "The glassworks",
        "The glassworks of the Marchetti sisters make floats for nets out of sea sand. Their glass is violet because "
        "of the manganese in the sand. A float costs four pips, and a broken one is exchanged for nothing.",
    ),
    (
        "The shipyard",
        "The shipyard of Saltmere builds luggers of oak and larch. One takes about eleven months. The master builder "
        "is Edda Thorne, and by custom she sleeps aboard each new ship for its first night.",
    ),
    (
        "The museum of knots",
        "The museum of knots is in Hawser Street and shows more than 900 knots. It was founded by the retired captain "
        "Ludo Meissen. Admission is free for anybody who can tie a bowline behind the back.",
    ),
    (
        "The theatre",
        "The theatre plays in the old salt store and seats 180. The play that is given most often is The Drowned "
        "Piper, by Aurelia Stamm. In the interval one eats pickled eggs.",
    ),
    (
        "The inn",
        "The only inn with rooms is the Crooked Oar. A room with breakfast costs fifteen shells a night. The landlord, "
        "Hob Tenney, locks the door at midnight and opens it for nobody.",
    ),
    (
        "The weather station",
        "The weather station on Heron Hill measures wind and rain. The strongest gust was 171 kilometres an hour. A "
        "black cone at its mast warns of storm, a white one of fog.",
    ),
    (
        "The salt works",
        "Salt is won in 26 pans south of the town. The harvest is in late July. The finest salt, called widow's snow, "
        "is scraped off by hand at dawn and sold to Karst alone.",
    ),
    (
        "The customs clerk",
        "The customs clerk sits at Pier One and is called Fenwick Moll. Tea, mirrors and live geese must be declared. "
        "The duty on tea is one shell a pound.",
    ),
    (
        "The orchard of the monks",
        "The monks of Saint Corvin keep an orchard of medlars beyond the east gate. They make a jelly of them that is "
        "served with smoked fish. There are seven monks, and they speak only on Thursdays.",
    ),
    (
        "The bridge of Crook Creek",
        "The bridge over Crook Creek is a drawbridge and was designed by the engineer Basil Orde. It is raised twice a "
        "day. Carts pay one pip for crossing it, and brides nothing.",
    ),
    (
        "The town archive",
        "The archive lies in the cellar of the town hall and is open on Mondays. The archivist is Nerissa Poole. "
        "Documents may be copied with a pencil only, since ink was spilled over the charter.",
    ),
)

QUESTIONS: tuple[tuple[str, str], ...] = (
    ("Who founded Saltmere?", "Odile Farrant"),
    ("In which year was Saltmere founded?", "1483"),
    ("What was the name of the wrecked barge out of which the first house of Saltmere was built?", "Patience"),
    ("How many metres high is the lighthouse of Saltmere?", "61"),
    ("On which rock does the lighthouse of Saltmere stand?", "Gannet Rock"),
    ("Who is the keeper of the lighthouse of Saltmere?", "Bram Ostergaard"),
    ("In which colour does the lighthouse of Saltmere flash?", "green"),
    ("Who is the harbour master of Saltmere?", "Ingrid Vallon"),
    ("How many shells a night does a boat of up to nine metres pay in the harbour of Saltmere?", "12"),
    ("Into how many pips is a shell divided?", "eight"),
    ("Which bird do the coins of Saltmere show?", "heron"),
    ("From what metal are the coins of Saltmere struck?", "tin"),
    ("What is the ferry to Karst called?", "Blue Magda"),
    ("From which pier does the ferry to Karst leave?", "Pier Four"),
    ("How many minutes does the ferry to Karst take?", "85"),
    ("How many members has the council of Saltmere?", "eleven"),
    ("Who is the mayor of Saltmere?", "Teodor Lamm"),
    ("What was the mayor of Saltmere before?", "beekeeper"),
    ("Who rang the alarm before the great flood of Saltmere?", "Sanna Pruitt"),
    ("Which dyke did the sea break through in the great flood of Saltmere?", "Ember Dyke"),
    ("How many metres long is the Ember Dyke?", "4,200"),
    ("Which animals graze on the Ember Dyke?", "sheep"),
    ("What is the largest bell of Saltmere called?", "Old Hanne"),
    ("What is the speciality of the fish market of Saltmere?", "smoked lumpfish"),
    ("To which family does the oldest bakery of Saltmere belong?", "Brandeis"),
    ("In which lane is the oldest bakery of Saltmere?", "Quill Lane"),
    ("How many beds has the hospital of Saint Wilma?", "forty"),
    ("Who is the head of the hospital of Saint Wilma?", "Pelle Anquist"),
    ("How many pupils has the school of Saltmere?", "210"),
    ("Who is the headmistress of the school of Saltmere?", "Marit Solberg"),
    ("For how many weeks may a book of the library of Saltmere be kept?", "five"),
    ("What is the greatest treasure of the library of Saltmere?", "Codex of Tides"),
    ("Who is the miller of the tide mill at Crook Creek?", "Jonas Drebbel"),
    ("What is the winter festival of Saltmere called?", "Lanternfall"),
    ("Which sloop holds the record of the regatta of Saltmere?", "Merry Widow"),
    ("What is the prize of the regatta of Saltmere?", "plum brandy"),
    ("What is the football club of Saltmere called?", "Tidewater Rovers"),
    ("In which colour does the football club of Saltmere play?", "orange"),
    ("What is the newspaper of Saltmere called?", "Saltmere Gull"),
    ("Who is the editor of the newspaper of Saltmere?", "Cosima Whitlock"),
    ("What is the oldest donkey of the post office of Saltmere called?", "Admiral"),
    ("How many stops has the tram of Saltmere?", "nine"),
    ("Who is the captain of the night watch of Saltmere?", "Roswitha Kern"),
    ("Where does the fire brigade of Saltmere keep its pump?", "Tallow Court"),
    ("Who is the chief of the fire brigade of Saltmere?", "Anselm Roake"),
    ("How many metres deep is the well of Saint Wilma?", "38"),
    ("On which beach of Saltmere may dogs run free?", "North Beach"),
    ("Who leads the seal sanctuary at Pebble Cove?", "Lotte Birk"),
    ("What colour is the glass of the Marchetti sisters?", "violet"),
    ("Who is the master builder of the shipyard of Saltmere?", "Edda Thorne"),
    ("Who founded the museum of knots in Saltmere?", "Ludo Meissen"),
    ("Which play is given most often in the theatre of Saltmere?", "The Drowned Piper"),
    ("What is the only inn with rooms in Saltmere called?", "Crooked Oar"),
    ("Who is the landlord of the Crooked Oar?", "Hob Tenney"),
    ("What warns of storm at the weather station of Saltmere?", "black cone"),
    ("What is the finest salt of Saltmere called?", "widow's snow"),
    ("Who is the customs clerk of Saltmere?", "Fenwick Moll"),
    ("On which day do the monks of Saint Corvin speak?", "Thursdays"),
    ("Who designed the bridge over Crook Creek?", "Basil Orde"),
    ("Who is the archivist of Saltmere?", "Nerissa Poole"),
)
