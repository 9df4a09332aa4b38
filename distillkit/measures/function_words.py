"""Function words of the Latin-script languages that the language measure tells apart by itself.

Small words carry a text's grammar, so they give a language away where a formula-ridden sentence is too
short for a statistical detector. Words that English mathematics has too (die, per, plus, son) stand under
English as well, so that they speak for neither; single letters are left out, they are variables. Other
scripts (Chinese, Russian, Korean, ...) need no list.
"""

FUNCTION_WORDS: dict[str, str] = {
    "en": """the of and to in is are was were be been being it its that this these those with for on at by
        from as or but not if so we us our you your they them their he she his him her me my which what when
        where who how why there here have has had having do does did can could will would should may might
        must shall let also than while whether each every any all some both either neither such same other
        another only just very more most less few many much now first still too into onto over under between
        through before after about against during within per up down out off no nor yet one two three four
        get gets got give gives given see know say says means mean need right well maybe actually suppose
        note don't doesn't isn't can't let's that's it's we're we've we'll there's won't didn't am an use
        using find way since next then than once again die man plus son want hat van door met sea war pour
        come car era due um""",
    "fr": """le la les un une des de et est sont dans pour par sur avec sans que qui quoi dont où ce cette
        ces cet il elle on nous vous ils elles se ne pas plus ou mais ni si aux au en être avoir ont été
        était comme quand lorsque chaque tout tous toute toutes deux trois même aussi entre soit sera peut
        doit faut leur leurs notre son sa ses mon ma je tu donc alors puis car qu'il qu'on""",
    "de": """der die das den dem des ein eine einen einem einer eines und oder aber nicht ist sind war wird
        werden wurde hat haben sein mit von zu zum zur im in am an auf aus bei für durch über unter nach vor
        wenn dann also da dass weil damit wie was wer wir ich er sie es man ihr uns unser sich nur noch
        schon auch so kann können muss müssen soll gilt sei jetzt nun hier alle jede jeder jedes kein keine
        beide zwei drei mehr als bis gibt diese dieser dieses somit um""",
    "es": """el la los las un una unos unas de del al en es son ser está están por para con sobre entre pero
        porque si no como cuando donde cual quien qué se su sus lo le les nos más menos muy también cada
        todo todos toda todas este esta estos estas ese esa eso esto hay tiene tenemos debe puede podemos
        sea ya dos tres ambos aunque mientras desde hasta según que así ahora luego entonces""",
    "it": """il lo la gli le un uno una di del dello della dei degli delle al allo alla ai agli alle da dal
        dalla in nel nella nei con su sul sulla per tra fra ed ma che cui non è sono era essere ha hanno
        abbiamo si se come quando dove anche più meno molto questo questa questi queste quello quella ogni
        tutto tutti tutte due tre ci ne deve può possiamo sia siano poi ora così quindi allora dunque perché
        però""",
    "pt": """os as um uma uns umas de do da dos das ou em no na nos nas por pelo pela para com sem que se
        não é são foi ser está estão mas porque como quando onde qual quais quem seu sua seus suas mais
        menos muito também cada todo todos toda todas este esta estes estas esse essa isso isto há tem temos
        deve pode podemos seja já dois duas três ambos entre até sobre então logo portanto assim agora""",
    "nl": """de het een en van in op te is zijn waren wordt worden werd met voor aan bij uit door over naar
        om dat die dit deze er als of maar want dan ook niet geen wel nog al we wij ik je hij zij ze hun ons
        onze elk elke alle kan kunnen moet moeten zal zullen hebben heeft geldt tussen twee drie meer wat
        wie waar hoe zo zodat dus daarom omdat""",
}
"""Language -> its words, lower case."""

MARKERS: dict[str, str] = {
    "en": """so wait therefore however because thus hence alternatively okay ok hmm then since whereas
        actually next moreover furthermore""",
    "fr": """donc alors puis ainsi cependant parce puisque ensuite enfin abord lorsque vérifions voyons
        attendons""",
    "de": "daher deshalb aber weil wobei nämlich denn zuerst außerdem folglich jedoch dann somit",
    "es": "entonces luego porque pero así ahora además primero después aunque espera verifiquemos",
    "it": "quindi allora dunque perché però poi così infine adesso aspetta verifichiamo",
    "pt": "então logo portanto porque assim agora primeiro depois também espera verificamos verificar",
    "nl": "dus daarom omdat maar wacht eerst vervolgens bovendien zodat",
}
"""Words that open a step of reasoning: languages mostly switch at them, so each counts double."""
